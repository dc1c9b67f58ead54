"""A reader that stays for a long time."""

from devcluster import LOG_SCHEMA, wait_for


def test_a_reader_on_a_follower(cluster, db):
    """readers-go-on, both ways: thousands of writes elsewhere are not held up by it, its snapshot
    does not move, its node goes on applying, and afterwards it sees the new."""
    cluster.create(db, "PRAGMA journal_mode = wal", *LOG_SCHEMA, "CREATE TABLE pad(x)")
    leader, node = cluster.leader(), cluster.followers()[0]
    look = "SELECT (SELECT n FROM counter), (SELECT count(*) FROM log), (SELECT sum(length(x)) FROM pad)"
    with node.client(db) as reader:
        reader.run("BEGIN")
        before = reader.run(look)
        with cluster.writing(db, leader) as [writer]:
            fill = "INSERT INTO pad SELECT randomblob(3000) FROM pragma_function_list"
            while len(writer.acknowledged()) < 2000:
                leader.sql(db, fill)
                assert reader.run(look) == before, "the snapshot moved"
        assert writer.failures() == []
        node.barrier()
        with node.client(db) as other:
            assert other.one("SELECT count(*) FROM log") == len(writer.acknowledged())
        assert reader.run(look) == before
        reader.run("COMMIT")
        assert reader.one("SELECT n FROM counter") == len(writer.acknowledged())
    cluster.check_log(db, [writer])


def test_readers_see_whole_transactions_in_order(cluster, db):
    """invisible-until-committed, Rule 18: on every node each look sees counter and rows of one
    moment, and no look sees an older moment than the one before, while WALs fill and are
    checkpointed."""
    cluster.create(db, "PRAGMA journal_mode = wal", *LOG_SCHEMA, "CREATE TABLE pad(x)")
    cluster.nodes[0].sql(
        db,
        "CREATE TRIGGER p AFTER INSERT ON log BEGIN INSERT INTO pad VALUES (randomblob(6000)); END",
    )
    readers = [node.client(db) for node in cluster.nodes]
    last = [0] * 3
    look = "SELECT n, (SELECT count(*) FROM log), (SELECT count(*) FROM pad) FROM counter"
    try:
        with cluster.writing(db, cluster.nodes[0], cluster.nodes[1]) as writers:

            def look_at_all():
                for number, reader in enumerate(readers):
                    for _ in range(20):
                        [[count, rows, pads]] = reader.run(look)
                        assert count == rows == pads, f"torn on {cluster.nodes[number]}"
                        assert count >= last[number], f"back in time on {cluster.nodes[number]}"
                        last[number] = count
                return min(last) > 1200

            wait_for(look_at_all, 60, "1200 transactions seen everywhere")
    finally:
        for reader in readers:
            reader.kill()
    assert [w.failures() for w in writers] == [[], []]
    cluster.check_log(db, writers)


def test_the_wal_that_a_reader_keeps(make_cluster):
    """readers-go-on has a price: one line now and then, which names the reader, and a metric; both go
    with it."""
    cluster = make_cluster(settings={"wal_warn_bytes: 256MiB": "wal_warn_bytes: 2MiB"})
    db, node = "kept.db", cluster.leader()
    cluster.create(db, "PRAGMA journal_mode = wal", "CREATE TABLE t(x)")

    def wal():
        return int(node.databases()[db]["wal_bytes"])

    def warnings():
        return [line for line in node.log().splitlines() if "kept by a long read" in line]

    with node.client(db) as reader, node.client(db) as writer:
        reader.run("BEGIN")
        reader.run("SELECT * FROM t")
        for _ in range(300):
            writer.run("INSERT INTO t VALUES (randomblob(60000))")
        lines = wait_for(warnings, what="a warning")
        assert len(lines) <= 3 and str(reader.process.pid) in lines[0]
        kept = wal()
        assert kept > 300 * 60000
        assert f'litefs_py_database_wal_bytes{{database="{db}"}} {kept}' in node.ask("/metrics")[1]
        reader.run("COMMIT")
        for _ in range(200):
            writer.run("INSERT INTO t VALUES (randomblob(60000))")
        assert wal() < kept + 1_000_000, "it is used again, not made longer"
    cluster.same(db)
