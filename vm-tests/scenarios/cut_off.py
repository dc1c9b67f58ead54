# machines: n1 n2 n3
# The leader's cable is pulled under load; then it is cut off in one direction only.
start_all()
form(n1, n2, n3)
load(n1, n2, n3)
hit = []


def others_go_on(cut):
    """The other two have a leader of their own and write; who is cut off reads, and no write of its
    passes."""
    hit.append(cut)
    others = [node for node in (n1, n2, n3) if node is not cut]
    leader(*others)
    for node in others:
        more(node)
    cut.wait_until_fails("curl -sf -m 5 http://127.0.0.1:8008/primary", timeout=30)
    before = cut.succeed("wc -l < /root/acked")
    for node in others:
        more(node)
    t.assertEqual(
        cut.succeed("wc -l < /root/acked"), before, f"{cut.name} wrote without a majority"
    )
    sql(cut, "select count(*) from written")


def it_comes_back(cut):
    ready(cut)
    more(cut)


with subtest("the leader's cable is pulled"):
    cut = leader(n1, n2, n3)
    cut.block()
    others_go_on(cut)
    cut.unblock()
    it_comes_back(cut)

with subtest("the leader hears nobody, but is heard"):
    cut = leader(n1, n2, n3)
    cut.succeed(
        "nft add table inet cut",
        "nft add chain inet cut incoming '{ type filter hook input priority 0; }'",
        "nft add rule inet cut incoming iifname eth1 drop",
    )
    others_go_on(cut)
    cut.succeed("nft delete table inet cut")
    it_comes_back(cut)

acked, failed = stop_load(n1, n2, n3)
nothing_lost_but(hit, acked, n1, n2, n3)
