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
for to in ("newer", "before"):
    with subtest(f"to the {to} system, one after the other"):
        for node in (n1, n2, n3):
            others = [other for other in (n1, n2, n3) if other is not node]
            load(*others)
            runs = node.get_unit_property("litefs-py", "MainPID")
            switch(node, NEWER if to == "newer" else BEFORE)
            ready(node)
            t.assertEqual(node.get_unit_property("litefs-py", "MainPID") == runs, False)
            for other in others:
                more(other, rows=5)
            wrote, failed = stop_load(*others)
            none_failed(failed)
            for name, numbers in wrote.items():
                acked.setdefault(name, set()).update(numbers)
        nothing_lost(acked, n1, n2, n3)
