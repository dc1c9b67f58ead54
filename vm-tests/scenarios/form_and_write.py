# machines: n1 n2 n3
# Three machines become a cluster by tokens; each writes, each reads what the others wrote.
start_all()
form(n1, n2, n3)

with subtest("every machine writes, and each sees it all"):
    writers = may_write(n1, n2, n3)
    for node in writers:
        sql(node, f"insert into written values ('{node.name}', 1)")
    for node in (n1, n2, n3):
        sees(node, "select group_concat(name) from written", ",".join(w.name for w in writers))

with subtest("the databases are seen by a service that is hardened in every way"):
    for options in (
        "",
        "-p ProtectSystem=strict -p PrivateTmp=yes -p PrivateDevices=yes -p ProtectHome=yes",
    ):
        may_write(n2, n1, n3)[0].succeed(
            f'systemd-run --wait {options} -p ReadWritePaths=/litefs "$(command -v sqlite3)" '
            "/litefs/app.db \"insert into written values ('service', (select count(*) from written))\"",
            timeout=60,
        )
    sees(n3, "select count(*) from written where name = 'service'", "2")

with subtest("the unit says how the node stands"):
    roles = [node.get_unit_property("litefs-py", "StatusText") for node in (n1, n2, n3)]
    t.assertEqual(sum("primary" in role for role in roles), 1, roles)
    n1.succeed("litefs-py status", "litefs-py doctor >&2 || true")

with subtest("a machine that shuts down in order comes back"):
    n3.shutdown()
    write(n1, n2, statement="insert into written values ('meanwhile', 1)")
    n3.start()
    ready(n3)
    sees(n3, "select count(*) from written where name = 'meanwhile'", "1")
