"""Two of three nodes are gone."""

import time

import pytest
from devcluster import LOG_SCHEMA, SqlError, wait_for


@pytest.fixture
def alone(cluster, db):
    """A database with a row, and the one node that is left; a follower before."""
    cluster.create(db, "PRAGMA journal_mode = wal", *LOG_SCHEMA, "INSERT INTO log VALUES ('a', 1)")
    left = cluster.followers()[0]
    for node in cluster.nodes:
        if node is not left:
            cluster.kill(node)
    wait_for(lambda: left.ask("/cluster")[1]["quorum"]["ok"] is False, what="the lost quorum")
    return left


def test_reads_go_on_and_writes_say_busy(cluster, db, alone):
    """readers-go-on, bounded-answer: BUSY at the application's own timeout; no primary, the replica
    endpoints tell the lag."""
    assert alone.sql(db, "SELECT who, k FROM log") == [["a", 1]]
    for timeout in (0, 1, 2):
        with alone.client(db, timeout=timeout) as client:
            with pytest.raises(SqlError) as failed:
                client.run("INSERT INTO log VALUES ('b', 1)")
            assert failed.value.busy
            assert timeout - 0.3 <= failed.value.seconds < timeout + 2
            assert client.run("SELECT who, k FROM log") == [["a", 1]]
    code, body = alone.ask("/primary")
    assert code == 503 and body["reason"]
    assert alone.ask("/read-only")[0] == 200
    assert alone.ask("/liveness")[0] == 200
    assert alone.ask("/replica?lag=100")[0] == 503
    assert alone.ask("/barrier?timeout=1s", "POST", timeout=5)[0] == 503


@pytest.mark.parametrize("leads", [True, False])
def test_who_has_the_write_lock_is_refused_too(cluster, db, leads):
    """A node that wrote last holds the cluster's lock, also when the others are gone: "busy" can be
    tried again, here or elsewhere; a COMMIT without a majority would have an open outcome."""
    cluster.create(db, "PRAGMA journal_mode = wal", *LOG_SCHEMA)
    left = cluster.leader() if leads else cluster.followers()[0]
    with left.client(db, timeout=1) as client:
        client.run("INSERT INTO log VALUES ('a', 1)")
        for node in cluster.nodes:
            if node is not left:
                cluster.kill(node)

        def is_refused():
            try:
                client.run("BEGIN IMMEDIATE")
            except SqlError as failed:
                return failed.busy
            client.run("ROLLBACK")

        wait_for(is_refused, what="somebody to know that nobody is there")
        for statement in ("BEGIN IMMEDIATE", "INSERT INTO log VALUES ('b', 1)"):
            with pytest.raises(SqlError) as failed:
                client.run(statement)
            assert failed.value.busy and failed.value.seconds < 3
        assert client.run("SELECT who, k FROM log") == [["a", 1]]
    assert left.ask("/cluster")[1]["indeterminate"] == []
    cluster.heal()
    cluster.running()[0].sql(db, "INSERT INTO log VALUES ('c', 1)", timeout=10)
    cluster.same(db)


def test_it_heals_when_one_returns(cluster, db, alone):
    """converges: writes go on with two of three, without anybody's help."""
    back = next(node for node in cluster.nodes if node.killed)
    with alone.client(db, timeout=60) as client:
        client.start(sql="INSERT INTO log VALUES ('b', 1)", args=[])
        cluster.restart(back)
        client.finish()
    cluster.leader()
    cluster.same(db)
    assert back.sql(db, "SELECT who, k FROM log ORDER BY k, who") == [["a", 1], ["b", 1]]


def test_a_commit_caught_by_the_loss(cluster, db):
    """The quorum goes while a transaction is open: its COMMIT is answered in a bounded time; it
    either stands on all nodes later, or on none, and an acknowledged one stands."""
    cluster.create(db, "PRAGMA journal_mode = wal", *LOG_SCHEMA)
    leader, others = cluster.leader(), cluster.followers()
    with leader.client(db) as client:
        client.run("BEGIN IMMEDIATE")
        client.run("INSERT INTO log VALUES ('open', 1)")
        for node in others:
            cluster.kill(node)
        client.start(sql="COMMIT", args=[])
        assert leader.sql(db, "SELECT count(*) FROM log") == [[0]], "invisible-until-committed"
        start = time.monotonic()
        with pytest.raises(SqlError):
            client.finish(deadline=40)
        assert time.monotonic() - start < 25, "commit_timeout is 15 s"
        assert leader.sql(db, "SELECT count(*) FROM log")[0][0] in (0, 1)
    # one-primary, from outside: whoever lost its majority is none, whatever it takes itself for.
    assert leader.ask("/primary")[0] == 503 and leader.ask("/readiness")[0] == 503
    assert 'outcome="indeterminate"} 1' in leader.ask("/metrics")[1]
    [listed] = leader.ask("/cluster")[1]["indeterminate"]
    assert (listed["database"], listed["outcome"]) == (db, "open")
    cluster.heal()
    cluster.same(db)
    wait_for(
        lambda: leader.ask("/cluster")[1]["indeterminate"][0]["outcome"] != "open",
        what="what became of it",
    )
    rows = {tuple(map(tuple, node.sql(db, "SELECT who, k FROM log"))) for node in cluster.nodes}
    assert len(rows) == 1
    cluster.leader().sql(db, "INSERT INTO log VALUES ('next', 1)")
    cluster.check_log(db, [])


def test_an_application_dies_in_its_commit(cluster, db):
    """Rule 3: whatever it leaves half done in the wal-index, new readers start without the lock
    that nobody can give."""
    cluster.create(db, "PRAGMA journal_mode = wal", *LOG_SCHEMA, "INSERT INTO log VALUES ('a', 1)")
    leader, others = cluster.leader(), cluster.followers()
    client = leader.client(db)
    client.run("BEGIN IMMEDIATE")
    client.run("INSERT INTO log VALUES ('open', 1)")
    for node in others:
        cluster.kill(node)
    client.start(sql="COMMIT", args=[])
    client.process.kill()
    for _ in range(3):
        assert leader.sql(
            db, "SELECT who FROM log WHERE k = 1 AND who = 'a'", timeout=1, deadline=8
        )
    client.process.wait(40)
    assert leader.sql(db, "SELECT who FROM log WHERE who = 'a'", timeout=1, deadline=8)
    cluster.heal()
    leader.sql(db, "INSERT INTO log VALUES ('after', 1)")
    cluster.check_log(db, [])
