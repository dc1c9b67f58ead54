# machines: n1 n2 n3
# The leader's machine stands still under load, and goes on later, as a paused or migrated guest does.
start_all()
form(n1, n2, n3)
load(n1, n2, n3)

with subtest("the leader freezes"):
    frozen = leader(n1, n2, n3)
    others = [node for node in (n1, n2, n3) if node is not frozen]
    frozen.send_monitor_command("stop")
    leader(*others)
    for node in others:
        more(node)

with subtest("it thaws, and follows"):
    frozen.send_monitor_command("cont")
    ready(frozen)
    leader(n1, n2, n3)
    more(frozen)

acked, failed = stop_load(n1, n2, n3)
nothing_lost_but([frozen], acked, n1, n2, n3)
