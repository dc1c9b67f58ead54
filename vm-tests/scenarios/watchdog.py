# machines: n1 n2 n3
# Bounded-answer: a daemon that hangs is ended by systemd's watchdog, and with it whoever waits for it.
start_all()
form(n1, n2, n3)
wrote = []

with subtest("the leader's daemon hangs"):
    hung = leader(n1, n2, n3)
    others = [node for node in (n1, n2, n3) if node is not hung]
    hung.succeed("systemctl kill --kill-whom=main --signal=STOP litefs-py")
    hung.succeed(
        "systemd-run --unit=reader \"$(command -v sqlite3)\" /litefs/app.db 'select count(*) from written'"
    )
    leader(*others)
    for node in may_write(*others):
        sql(node, f"insert into written values ('{node.name}', 1)")
        wrote.append(node.name)

with subtest("it is ended, and starts again"):
    hung.wait_until_succeeds(
        'test "$(systemctl show litefs-py --property=NRestarts)" = NRestarts=1', timeout=60
    )
    ready(hung)
    hung.wait_until_fails("systemctl is-active reader", timeout=30)
    for node in [hung] if EVERYWHERE else []:
        sql(node, f"insert into written values ('{node.name}', 1)")
        wrote.append(node.name)

nothing_lost({name: {1} for name in wrote}, n1, n2, n3)
