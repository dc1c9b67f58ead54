# machines: n1 n2 n3
# The leadership is handed over under load: no statement fails, on any machine.
start_all()
form(n1, n2, n3)
load(n1, n2, n3)

for round in range(4):
    with subtest(f"switchover {round + 1}"):
        before = leader(n1, n2, n3)
        to = next(node for node in (n1, n2, n3) if node is not before)
        (n1, n2, n3)[round % 3].succeed(f"litefs-py switchover --to {to.name}", timeout=30)
        t.assertEqual(leader(n1, n2, n3).name, to.name)
        for node in (n1, n2, n3):
            more(node, rows=5)

acked, failed = stop_load(n1, n2, n3)
none_failed(failed)
nothing_lost(acked, n1, n2, n3)
