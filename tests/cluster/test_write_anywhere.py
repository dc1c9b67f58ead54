"""Every node may write: nothing is lost, nobody starves."""

import pytest
from devcluster import LOG_SCHEMA, SqlError, wait_for

TICK = "UPDATE counter SET n = n + 1"


@pytest.mark.parametrize("count", [2, 3])
def test_no_increment_is_lost(cluster, db, count):
    """one-history, Rule 15: rows are the writers' own, the counter is everybody's. Each goes on."""
    cluster.create(db, *LOG_SCHEMA)
    with cluster.writing(db, *cluster.nodes[:count]) as writers:
        wait_for(lambda: all(len(w.acknowledged()) >= 40 for w in writers), 20, "progress of each")
    for writer in writers:
        assert writer.failures() == [], "with a busy timeout of 5 s nobody fails"
    assert cluster.check_log(db, writers) == sum(len(w.acknowledged()) for w in writers)


def test_the_same_statement_everywhere(cluster, db):
    """Rule 5: equal bytes on an equal base are still two transactions."""
    cluster.create(db, *LOG_SCHEMA)
    with cluster.writing(db, *cluster.nodes, statement=TICK) as writers:
        wait_for(lambda: all(len(w.acknowledged()) >= 30 for w in writers), 20, "progress of each")
    cluster.same(db)
    done = sum(len(w.acknowledged()) for w in writers)
    assert cluster.nodes[0].sql(db, "SELECT n FROM counter") == [[done]]


def test_several_applications_on_each_node(cluster, db):
    """The local queue and the cluster's together (Rule 15: a recall beats local waiters)."""
    cluster.create(db, *LOG_SCHEMA)
    with cluster.writing(db, *cluster.nodes * 2, timeout=15) as writers:
        wait_for(lambda: all(len(w.acknowledged()) >= 10 for w in writers), 30, "progress of each")
    assert [w.failures() for w in writers] == [[]] * 6
    cluster.check_log(db, writers)


def test_a_read_is_not_upgraded_past_a_write_elsewhere(cluster, db):
    """BEGIN; SELECT; then somebody else writes; then INSERT: SQLITE_BUSY, as SQLite does with any
    other writer in between. Never a silent overwrite."""
    cluster.create(db, "PRAGMA journal_mode = wal", "CREATE TABLE t(n)", "INSERT INTO t VALUES (0)")
    for node, other in ((cluster.nodes[0], cluster.nodes[1]), (cluster.nodes[1], cluster.nodes[0])):
        with node.client(db) as client:
            client.run("BEGIN")
            seen = client.one("SELECT n FROM t")
            other.sql(db, TICK.replace("counter", "t"))
            with pytest.raises(SqlError) as failed:
                client.run("UPDATE t SET n = ? + 1", seen)
            assert failed.value.busy
            client.run("ROLLBACK")
            client.run("UPDATE t SET n = n + 1")
    cluster.same(db)
    assert cluster.nodes[2].sql(db, "SELECT n FROM t") == [[4]]


def test_a_transaction_left_open_stops_only_other_writers(cluster, db):
    """The application that holds the lock stops writers elsewhere until their busy timeout, not
    readers; when it ends, so does the wait."""
    cluster.create(db, "PRAGMA journal_mode = wal", "CREATE TABLE t(n)")
    for holder, other in (
        (cluster.nodes[0], cluster.nodes[1]),
        (cluster.nodes[1], cluster.nodes[2]),
    ):
        with holder.client(db) as client:
            client.run("BEGIN IMMEDIATE")
            client.run("INSERT INTO t VALUES (1)")
            with other.client(db, timeout=0.5) as waiting:
                with pytest.raises(SqlError) as failed:
                    waiting.run("INSERT INTO t VALUES (2)")
                assert failed.value.busy and 0.4 < failed.value.seconds < 3
                waiting.run("SELECT * FROM t")
            client.run("COMMIT")
            other.sql(db, "INSERT INTO t VALUES (2)")
    cluster.same(db)
