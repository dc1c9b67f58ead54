# machines: n1 n2 n3
# The leader's machine loses its power under load, and is brought back; then a follower's.
start_all()
form(n1, n2, n3)
load(n1, n2, n3)

with subtest("the leader's power goes"):
    crashed_leader = leader(n1, n2, n3)
    others = [node for node in (n1, n2, n3) if node is not crashed_leader]
    crashed_leader.crash()
    leader(*others)
    for node in others:
        more(node)
    crashed_leader.start()
    ready(crashed_leader, timeout=120)

with subtest("a follower's power goes"):
    leads = leader(n1, n2, n3)
    crashed = next(node for node in (n1, n2, n3) if node is not leads)
    crashed.crash()
    more(leads)
    crashed.start()
    ready(crashed, timeout=120)

acked, failed = stop_load(n1, n2, n3)
nothing_lost_but([crashed_leader, crashed], acked, n1, n2, n3)
