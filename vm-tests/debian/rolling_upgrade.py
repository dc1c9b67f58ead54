# machines: n1 n2 n3
# Upgrades of the package under load, one machine after the other, and the way back: docs/install.md, "Upgrades".
# Both packages lie in /root. vm-tests/nixos has that of NixOS.
PACKAGES = {"earlier": "/root/litefs-py-earlier.deb", "newer": "/root/litefs-py.deb"}


def version_of(package):
    return n1.succeed(f"dpkg-deb --field {package} Version").strip()


def install(node, package):
    """As docs/install.md has it: apt, which asks for no mirror here; downgrades are said so."""
    node.succeed(
        "DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --allow-downgrades "
        f"-o Dpkg::Use-Pty=0 {package} >&2",
        timeout=90,
    )
    installed = node.succeed("dpkg-query --show --showformat '${Version}' litefs-py")
    t.assertEqual(installed, version_of(package))


start_all()
for node in machines:
    node.wait_for_unit("multi-user.target", timeout=120)
    install(node, PACKAGES["earlier"])
form(n1, n2, n3)
n1.succeed("echo '#mine' >> /etc/default/litefs-py")
before = n1.succeed("cat /etc/litefs-py/config.yml")

acked = {}
for to in ("newer", "earlier"):
    with subtest(f"to the {to} version, one after the other"):
        one_after_the_other(lambda node: install(node, PACKAGES[to]), acked, n1, n2, n3)

with subtest("what the administrator wrote stays"):
    n1.succeed("grep -q '#mine' /etc/default/litefs-py")
    t.assertEqual(n1.succeed("cat /etc/litefs-py/config.yml"), before)
