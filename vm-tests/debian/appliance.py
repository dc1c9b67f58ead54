# machines: n1 n2 n3
# guests: n3
# engines: embedded
# The disk image of `make qcow2`, booted by QEMU, joins two containers by what cloud-init's user data says. Not
# for NixOS.


def shown(words, timeout=120):
    """On the serial console, above the prompt."""
    retry(lambda _last: words in n3.container.console(), timeout_seconds=timeout)


def first_boot(name):
    token = n1.succeed("litefs-py token create").strip()
    return f"TOKEN={token}\nSERVERS={address(n1)}:{PORT}\nNAME={name}\n"


for node in (n1, n2):
    node.start()
form(n1, n2)

with subtest("power on: it joins as user data says, and shows it on its console"):
    n3.container.first_boot = first_boot("n3")
    n3.start()
    ready(n3, timeout=900)
    n3.fail("test -e /etc/litefs-py/first-boot")
    n1.wait_until_succeeds("litefs-py member list | grep -w n3 | grep -w voter", timeout=60)
    shown("node n3: replica")

with subtest("nobody has a password, SSH takes keys alone"):
    told = n3.succeed("cut -d: -f2 /etc/shadow | sort -u").split()
    t.assertEqual([each for each in told if each[0] not in "!*"], [])
    allowed = n3.succeed("sshd -T | grep -E '^(password|kbdinteractive)authentication'").split()
    t.assertEqual(allowed[1::2], ["no", "no"])

with subtest("the firewall lets in SSH and the mesh"):
    n3.succeed("nft list chain inet filter input | grep 'policy drop'")
    n1.succeed(f"nc -z -w 5 {address(n3)} 22", f"nc -z -w 5 {address(n3)} {PORT}")
    n3.succeed("systemd-run --unit=heard python3 -m http.server 9999")
    n3.wait_until_succeeds("curl -sf -o /dev/null http://127.0.0.1:9999", timeout=60)
    n1.fail(f"curl -sf -m 5 -o /dev/null http://{address(n3)}:9999")
    n3.succeed("systemctl stop heard")

with subtest("it has become a machine of its own, and as large as its disk"):
    t.assertEqual(n3.succeed("hostname").strip(), "n3")
    n3.succeed("grep -Eqx '[0-9a-f]{32}' /etc/machine-id", "ls /etc/ssh/ssh_host_ed25519_key")
    t.assertEqual(
        int(n3.succeed("df --output=size -BM / | tail -n 1").strip(" \n\tM")) > 3500, True
    )
    n3.wait_until_succeeds("cloud-init status | grep -E 'done|error'", timeout=900)
    t.assertEqual(n3.succeed("systemctl --failed --no-legend").strip(), "")

# Under emulation its own writers would hardly get the lock beside two others.
load(n1, n2)
with subtest("its power goes under load, and it comes back, started by UEFI"):
    n3.crash()
    more(n1)
    n3.container.by_uefi()
    n3.start()
    n3.wait_until_succeeds("systemctl is-active litefs-py | grep activ", timeout=900)
    n3.succeed("test -d /sys/firmware/efi")
    # One that is emulated need not keep up with two that are not.
    acked, failed = stop_load(n1, n2)
    ready(n3, timeout=900)

with subtest("it is rebooted in order"):
    before = n3.succeed("cat /proc/sys/kernel/random/boot_id").strip()
    n3.execute("systemctl reboot", timeout=60)
    n3.wait_until_succeeds(f"! grep -q {before} /proc/sys/kernel/random/boot_id", timeout=900)
    ready(n3, timeout=900)

sql(n3, "insert into written values ('rebooted', 1)")
nothing_lost(acked, n1, n2, n3)

with subtest("a machine that cannot be what it is told says so on its console"):
    text = first_boot("n2")
    n3.succeed("systemctl stop litefs-py", "find /etc/litefs-py -mindepth 1 -delete", timeout=60)
    n3.succeed(f"(umask 077 && printf %s {shlex.quote(text)} > /etc/litefs-py/first-boot)")
    n3.succeed("systemctl start --no-block litefs-py-first-boot")
    shown("n2 at 192.168.1.3:4321 cannot be set up")
