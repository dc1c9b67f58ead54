# machines: n1 n2 n3
# docs/operations.md, "Upgrades": one service after the other, under load on the other machines.
start_all()
form(n1, n2, n3)

acked = {}
for restarted in (n1, n2, n3):
    with subtest(f"restart {restarted.name}"):
        others = [node for node in (n1, n2, n3) if node is not restarted]
        load(*others)
        restarted.succeed("systemctl restart litefs-py", timeout=60)
        ready(restarted)
        for node in others:
            more(node, rows=5)
        written, failed = stop_load(*others)
        none_failed(failed)
        nothing_lost(written, n1, n2, n3)
        write(n1, n2, n3, statement="delete from written")
