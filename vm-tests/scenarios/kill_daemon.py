# machines: n1 n2 n3
# The leader's daemon is killed under load; systemd starts it again, the others go on at once.
start_all()
form(n1, n2, n3)
load(n1, n2, n3)

hit = []
for round in (1, 2):
    with subtest(f"kill the leader's daemon, {round}"):
        killed = leader(n1, n2, n3)
        others = [node for node in (n1, n2, n3) if node is not killed]
        hit.append(killed)
        killed.succeed("systemctl kill --kill-whom=main --signal=KILL litefs-py")
        leader(*others)
        for node in others:
            more(node)
        ready(killed)
        more(killed)

restarts = sum(int(node.get_unit_property("litefs-py", "NRestarts")) for node in (n1, n2, n3))
t.assertEqual(restarts, 2)
acked, failed = stop_load(n1, n2, n3)
nothing_lost_but(hit, acked, n1, n2, n3)
