# machines: n1
# The Debian package: installed, set up, upgraded from itself, removed, installed again, purged. The package is
# installed on the machine already, and lies in /root. Not for NixOS.
PACKAGE = "/root/litefs-py.deb"
INSTALL = f"dpkg --install {PACKAGE}"

start_all()
n1.wait_for_unit("multi-user.target", timeout=120)

with subtest("installed: enabled, and not started without a configuration"):
    n1.succeed("systemctl is-enabled litefs-py")
    t.assertEqual(n1.get_unit_property("litefs-py", "ActiveState"), "inactive")
    n1.succeed("systemctl start litefs-py")
    t.assertEqual(n1.get_unit_property("litefs-py", "ConditionResult"), "no")
    t.assertEqual(n1.get_unit_property("litefs-py", "ActiveState"), "inactive")
    n1.succeed("getent group litefs-py", "dpkg --verify litefs-py")
    t.assertEqual(n1.succeed("stat -c '%a %U %G' /etc/litefs-py").strip(), "750 root root")
    t.assertEqual(n1.succeed("stat -c '%a %U %G' /var/lib/litefs-py").strip(), "700 root litefs-py")
    n1.succeed("test -s /usr/share/man/man1/litefs-py-node.1.gz")
    n1.succeed("bash -n /usr/share/bash-completion/completions/litefs-py")

with subtest("set up"):
    begin(n1)
    sql(n1, "create table t(a); insert into t values (1)")

with subtest("the socket is for the group, and for nobody else"):
    ask = "setpriv --reuid 65534 --regid 65534 {} litefs-py databases --config /root/asked.yml"
    # A configuration that anyone can read; /root too.
    n1.succeed("chmod 755 /root", "install -m 644 /etc/litefs-py/config.yml /root/asked.yml")
    n1.succeed(ask.format('--groups "$(getent group litefs-py | cut -d: -f3)"'))
    n1.fail(ask.format("--clear-groups"))
    t.assertEqual(
        n1.succeed("stat -c '%a %U %G' /run/litefs-py/api.sock").strip(), "660 root litefs-py"
    )
    t.assertEqual(n1.succeed("stat -c '%a %G' /run/litefs-py").strip(), "750 litefs-py")

with subtest("upgraded from itself: restarted, and what the administrator wrote stays"):
    n1.succeed("echo '#mine' >> /etc/default/litefs-py")
    before = n1.get_unit_property("litefs-py", "MainPID")
    n1.succeed(INSTALL, timeout=60)
    ready(n1)
    t.assertEqual(n1.get_unit_property("litefs-py", "MainPID") == before, False)
    t.assertEqual(sql(n1, "select a from t"), "1")
    n1.succeed("grep -q '#mine' /etc/default/litefs-py")

with subtest("disabled stays disabled"):
    n1.succeed("systemctl disable --now litefs-py", INSTALL, timeout=60)
    n1.fail("systemctl is-enabled litefs-py")
    t.assertEqual(n1.get_unit_property("litefs-py", "ActiveState"), "inactive")
    n1.succeed("systemctl enable --now litefs-py", timeout=60)
    ready(n1)

with subtest("removed: stopped and unmounted, databases and configuration stay"):
    n1.succeed("dpkg --remove litefs-py", timeout=60)
    n1.fail("pgrep -x litefs-py")
    n1.fail("grep -q ' /litefs fuse' /proc/mounts")
    n1.succeed("test -s /etc/litefs-py/config.yml", "test -d /var/lib/litefs-py/dbs")

with subtest("installed again: it goes on"):
    n1.succeed(INSTALL, "systemctl start litefs-py", timeout=60)
    ready(n1)
    t.assertEqual(sql(n1, "select a from t"), "1")

with subtest(
    "purged: no configuration, no key, no group, no mount point; databases are kept and named"
):
    told = n1.succeed("dpkg --purge litefs-py 2>&1", timeout=60)
    t.assertEqual("/var/lib/litefs-py are kept" in told, True, told)
    n1.fail("test -e /etc/litefs-py")
    n1.fail("test -e /etc/default/litefs-py")
    n1.fail("getent group litefs-py")
    n1.fail("test -e /litefs")
    n1.fail("systemctl cat litefs-py")
    n1.succeed("test -d /var/lib/litefs-py/dbs")
    t.assertEqual(n1.succeed("systemctl --failed --no-legend").strip(), "")
