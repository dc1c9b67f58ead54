# machines: n1 n2 n3
# engines: embedded
# wants: newer
# Upgrades under load, one machine after the other, and the way back: docs/nix.md, "Upgrades". The newer system is
# a specialisation of each machine; the one before it is kept under a name.
BEFORE = "/root/system-before"
NEWER = "/run/current-system/specialisation/newer"


def switch(node, system):
    node.succeed(f"{system}/bin/switch-to-configuration test >&2", timeout=120)


start_all()
form(n1, n2, n3)
for node in machines:
    node.succeed(f"ln -s $(readlink -f /run/current-system) {BEFORE}")

acked = {}
for to, system in (("newer", NEWER), ("before", BEFORE)):
    with subtest(f"to the {to} system, one after the other"):
        one_after_the_other(lambda node: switch(node, system), acked, n1, n2, n3)
