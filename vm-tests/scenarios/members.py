# machines: n1 n2 n3 n4
# A fourth machine is added under load, and the leader removed.
start_all()
form(n1, n2, n3)
load(n1, n2, n3)

with subtest("a fourth machine"):
    n4.wait_for_unit("multi-user.target", timeout=120)
    n4.fail("systemctl is-active litefs-py")
    join(n4, n2)
    write(n4, n1, n2, n3, statement="insert into written values ('n4', 1)")
    sees(n4, "select count(*) from written where name = 'n4'", "1")

with subtest("the leader is removed"):
    removed = leader(n1, n2, n3, n4)
    rest = [node for node in (n1, n2, n3, n4) if node is not removed]
    rest[0].succeed(f"litefs-py member remove {removed.name}", timeout=60)
    removed.wait_until_succeeds("systemctl is-failed litefs-py", timeout=60)
    t.assertEqual(removed.get_unit_property("litefs-py", "ExecMainStatus"), "78")
    removed.fail("grep -q ' /litefs fuse' /proc/mounts")
    leader(*rest)
    for node in may_write(*rest):
        sql(node, f"insert into written values ('after', {node.name[1:]})")

writers = [node for node in (n1, n2, n3) if node is not removed]
acked, failed = stop_load(*writers)
nothing_lost(acked, *rest)
