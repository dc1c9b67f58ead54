"""Schedules that broke a promise on paper or in a prototype, as far as they can be played with real
processes from outside. Each says which rule closes it."""

import os
import signal
import subprocess
import sys
import time

import pytest
from devcluster import LOG_SCHEMA, SqlError, die_with_parent, is_alive, run, shell, wait_for

COUNT = ("PRAGMA journal_mode = wal", "CREATE TABLE c(n)", "INSERT INTO c VALUES (0)")
TICK = "UPDATE c SET n = n + 1"


@pytest.fixture(scope="module")
def settings():
    """A log that is purged soon, so that who was away needs a snapshot."""
    return {"log_purge_bytes: 64MiB": "log_purge_bytes: 2MiB"}


@pytest.mark.parametrize("touched", [False, True], ids=["lock only", "page changed"])
def test_applying_beneath_a_holder(cluster, db, touched):
    """Rule 1. An application on F holds the lock; F freezes, loses it, G commits; F wakes. The
    application's COMMIT must fail, and its next UPDATE must not pass on the old page."""
    cluster.create(db, *COUNT)
    leader, frozen = cluster.leader(), cluster.followers()[0]
    with frozen.client(db) as app:
        app.run("BEGIN IMMEDIATE")
        assert app.one("SELECT n FROM c") == 0
        if touched:
            app.run(TICK)
        cluster.pause(frozen)
        leader.sql(db, TICK, timeout=25)
        cluster.resume(frozen)
        committed = 0
        try:
            if not touched:
                app.run(TICK)
            app.run("COMMIT")
            committed = 1
        except SqlError:
            try:
                app.run("ROLLBACK")
            except SqlError:
                pass  # SQLite rolled back already
        assert committed == 0, "the lock was lost: this base was replaced"

        def tick():
            """Refused while it catches up is fine; a lost update is not."""
            try:
                app.run(TICK)
                return True
            except SqlError:
                return False

        wait_for(tick, 20, "the application goes on")
    cluster.same(db)
    assert leader.sql(db, "SELECT n FROM c") == [[2]]


def test_a_reader_of_the_old_lock(cluster, db):
    """The same with a read snapshot: it stays whole, and its upgrade says BUSY."""
    cluster.create(db, *COUNT)
    leader, frozen = cluster.leader(), cluster.followers()[0]
    with frozen.client(db) as app:
        app.run("BEGIN")
        assert app.one("SELECT n FROM c") == 0
        cluster.pause(frozen)
        leader.sql(db, TICK, timeout=25)
        cluster.resume(frozen)
        frozen.barrier()
        assert app.one("SELECT n FROM c") == 0
        with pytest.raises(SqlError):
            app.run(TICK)
        app.run("ROLLBACK")
        app.run(TICK)
    cluster.same(db)
    assert leader.sql(db, "SELECT n FROM c") == [[2]]


def test_a_proposal_of_a_deposed_leader(cluster, db):
    """Rules 5 and 6: the leader freezes with a COMMIT of its own application on the way; another
    leads and writes the same bytes; the old one wakes. Each increment counts once or not at all,
    as its application was told."""
    cluster.create(db, *COUNT)
    for _ in range(3):
        leader, other = cluster.leader(), cluster.followers()[0]
        before = other.sql(db, "SELECT n FROM c")[0][0]
        told = 0
        with leader.client(db) as app:
            app.run("BEGIN IMMEDIATE")
            app.run(TICK)
            app.start(sql="COMMIT", args=[])
            cluster.pause(leader)
            other.sql(db, TICK, timeout=25)
            cluster.resume(leader)
            try:
                app.finish()
                told = 1
            except SqlError:
                pass
        cluster.same(db)
        assert leader.sql(db, "SELECT n FROM c") == [[before + 1 + told]]


def test_an_application_outlives_its_daemon(cluster, db):
    """Rule 3, stale wal-index: it keeps its connection, and its map of the old shm, over the
    daemon's death. Its statements fail; it can harm nothing; a new connection works."""
    cluster.create(db, *COUNT)
    for victim in (cluster.followers()[0], cluster.leader()):
        with victim.client(db) as app:
            app.run("BEGIN IMMEDIATE")
            app.run(TICK)
            cluster.kill(victim)
            cluster.restart(victim)
            # It is ready as soon as it serves, perhaps some entries behind.
            victim.barrier()
            before = victim.sql(db, "SELECT n FROM c")[0][0]
            for statement in ("COMMIT", "ROLLBACK", TICK):
                with pytest.raises(SqlError):
                    app.run(statement)
            app.close()
        assert victim.sql(db, TICK, "SELECT n FROM c") == [[before + 1]]
        cluster.same(db)


def test_an_application_outlives_a_clean_restart(cluster, db):
    """The same with SIGTERM: no SIGBUS for whoever has the wal-index mapped."""
    cluster.create(db, *COUNT)
    victim = cluster.followers()[0]
    with victim.client(db) as app:
        assert app.one("SELECT n FROM c") == 0
        cluster.kill(victim, signal.SIGTERM)
        cluster.restart(victim)
        with pytest.raises(SqlError):
            app.run(TICK)
        assert app.process.poll() is None, "the application was killed by a signal"
    victim.sql(db, TICK)
    cluster.same(db)
    assert cluster.leader().sql(db, "SELECT n FROM c") == [[1]]


def test_a_snapshot_for_who_was_away(cluster, db):
    """converges, Rules 13 and 19: away for longer than the log reaches back, the node gets whole
    databases; one that was deleted meanwhile is not there, a new one is."""
    other, gone = f"other-{db}", f"gone-{db}"
    cluster.create(db, "PRAGMA journal_mode = wal", "CREATE TABLE t(x)")
    cluster.create(gone, "CREATE TABLE t(x)")
    away = cluster.followers()[0]
    cluster.kill(away)
    leader = cluster.leader()
    for _ in range(6):
        leader.sql(db, "INSERT INTO t SELECT randomblob(9000) FROM pragma_function_list LIMIT 90")
    leader.sql(other, "CREATE TABLE t(x)", "INSERT INTO t VALUES ('new')")
    run("rm", leader.db(gone))
    for _ in range(6):
        leader.sql(db, "INSERT INTO t SELECT randomblob(9000) FROM pragma_function_list LIMIT 90")
    cluster.restart(away)
    cluster.same(db)
    cluster.same(other)
    wait_for(lambda: gone not in away.databases(), what=f"the deletion of {gone}")
    assert away.sql(db, "SELECT count(*) FROM t") == [[12 * 90]]
    away.sql(db, "DELETE FROM t")
    cluster.same(db)


def test_a_deletion_after_the_log_was_purged(cluster, db):
    """Rule 13: the log that is replayed begins in the middle of a database's life, and ends after
    it: its files are gone, and every node starts again all the same."""
    other, gone = f"other-{db}", f"gone-{db}"
    cluster.create(gone, "PRAGMA journal_mode = wal", "CREATE TABLE t(x)")
    cluster.create(other, "PRAGMA journal_mode = wal", "CREATE TABLE t(x)")
    leader = cluster.leader()
    for _ in range(6):
        leader.sql(
            other, "INSERT INTO t SELECT randomblob(9000) FROM pragma_function_list LIMIT 90"
        )
    leader.sql(gone, "INSERT INTO t VALUES ('after')")
    run("rm", leader.db(gone))
    for node in cluster.nodes:
        cluster.kill(node)
    # One alone is not ready: all at once.
    cluster.stop()
    cluster.start()
    cluster.same(other)
    for node in cluster.nodes:
        assert gone not in node.databases()
    cluster.leader().sql(gone, "CREATE TABLE t(y)", "INSERT INTO t VALUES ('anew')")
    cluster.same(gone)


def test_a_checkpoint_that_waits_for_the_write_lock(cluster, db):
    """An application's checkpoint holds byte 121 while it waits for byte 120, which it gets when
    this node has caught up: that must not wait for byte 121."""
    cluster.create(db, "PRAGMA journal_mode = wal", *LOG_SCHEMA)
    node, other = cluster.followers()[0], cluster.leader()
    with cluster.writing(db, other) as [writer], node.client(db, timeout=10) as app:
        for kind in ["FULL", "RESTART", "TRUNCATE"] * 5:
            app.run(f"PRAGMA wal_checkpoint({kind})")
            assert app.seconds < 9, f"{kind} waited until its busy timeout"
            so_far = len(writer.acknowledged())
            wait_for(lambda n=so_far: len(writer.acknowledged()) > n, 10, "the writer goes on")
    assert writer.failures() == []
    cluster.check_log(db, [writer])


# An application with locks of the open file description, which ends without a word.
OFD = """
import fcntl, os, struct, sys
fd = os.open(sys.argv[1] + "-shm", os.O_RDWR)
lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 120, 1, 0)
fcntl.fcntl(fd, 37, lock)
print("locked", flush=True)
sys.stdin.read()
"""


def test_locks_of_an_open_file_end_with_it(cluster, db):
    """F_OFD_SETLK: no process owns them, so that no close of a process ends them."""
    cluster.create(db, *COUNT)
    node, other = cluster.followers()
    app = subprocess.Popen(
        [sys.executable, "-c", OFD, node.db(db)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,
    )
    try:
        with node.client(db):
            assert app.stdout.readline() == "locked\n"
            with pytest.raises(SqlError) as failed:
                other.sql(db, TICK, timeout=1)
            assert failed.value.busy
            app.kill()
            app.wait(20)
            other.sql(db, TICK, timeout=10)
            node.sql(db, TICK, timeout=10)
    finally:
        app.kill()
    cluster.same(db)


def test_an_idle_holder_does_not_stop_its_node(cluster, db):
    """readers-go-on: nothing is applied beneath a doomed holder (Rule 1), so that the log cannot be
    purged here; it waits, and the node lives."""
    cluster.create(db, *COUNT)
    cluster.create(f"other-{db}", "CREATE TABLE t(x)")
    leader, frozen = cluster.leader(), cluster.followers()[0]
    pid = frozen.pid
    with frozen.client(db) as app:
        app.run("BEGIN IMMEDIATE")
        cluster.pause(frozen)
        leader.sql(db, TICK, timeout=25)
        cluster.resume(frozen)
        written = 0.0

        def has_to_wait():
            """A purge that was under way had its end before the holder: so more than once."""
            nonlocal written
            if time.monotonic() - written > 4:
                written = time.monotonic()
                for _ in range(4):
                    leader.sql(
                        f"other-{db}",
                        "INSERT INTO t SELECT randomblob(9000) FROM pragma_function_list LIMIT 90",
                        timeout=25,
                    )
            return "cannot be purged yet" in frozen.log()

        wait_for(has_to_wait, 60, "a purge that has to wait")
        assert frozen.sql(db, "SELECT n FROM c") == [[0]]
        app.run("ROLLBACK")
    cluster.same(db)
    cluster.same(f"other-{db}")
    assert is_alive(pid), "not restarted"


def test_a_snapshot_beneath_open_applications(cluster, db):
    """A node that was frozen while the log was purged gets the database as one transaction, under
    connections that stay open: no READONLY_DBMOVED, a reader's snapshot stays whole."""
    cluster.create(
        db, "PRAGMA journal_mode = wal", "CREATE TABLE t(x)", "INSERT INTO t VALUES ('old')"
    )
    leader, frozen = cluster.leader(), cluster.followers()[0]
    with frozen.client(db) as reader, frozen.client(db) as writer:
        reader.run("BEGIN")
        assert reader.one("SELECT count(*) FROM t") == 1
        assert writer.one("SELECT count(*) FROM t") == 1
        cluster.pause(frozen)
        for _ in range(10):
            leader.sql(
                db, "INSERT INTO t SELECT randomblob(9000) FROM pragma_function_list LIMIT 90",
                timeout=25,
            )  # fmt: skip
        cluster.resume(frozen)
        cluster.settle(db)
        assert reader.one("SELECT count(*) FROM t") == 1
        reader.run("COMMIT")
        assert reader.one("SELECT count(*) FROM t") == 901
        writer.run("INSERT INTO t VALUES ('new')")
    cluster.same(db)


def test_the_bare_mount_point(cluster):
    """While the daemon is dead, nobody may begin a database in the folder beneath; after a clean
    stop one that was begun all the same is not hidden: the node refuses to start, saying why."""
    node = cluster.followers()[0]
    cluster.kill(node)
    assert run("touch", node.db("bare.db"), check=False).returncode != 0
    cluster.restart(node)
    assert run("ls", node.db("bare.db"), check=False).returncode != 0

    cluster.kill(node, signal.SIGTERM)
    if shell(node.db("bare.db"), "CREATE TABLE t(x)", check=False).returncode == 0:
        start = time.monotonic()
        done = cluster.command("dev", "--dir", cluster.folder, "restart", node.name, check=False)
        assert done.returncode != 0 and time.monotonic() - start < 20
        assert "bare.db" in done.stderr
        os.unlink(node.db("bare.db"))
    cluster.restart(node)


def test_stop_and_go_of_everybody(cluster, db):
    """Frozen one after the other, under load: no two histories, no lost row (one-primary)."""
    cluster.create(db, *LOG_SCHEMA)
    with cluster.writing(db, *cluster.nodes, timeout=15) as writers:
        for node in cluster.nodes:
            moment = time.time()
            cluster.pause(node)
            others = [w for w, n in zip(writers, cluster.nodes, strict=True) if n is not node]
            wait_for(lambda w=others, m=moment: all(x.after(m) > 5 for x in w), 30, "the others")
            cluster.resume(node)
            woken = time.time()
            wait_for(lambda w=writers, m=woken: all(x.after(m) > 5 for x in w), 30, "all")
    cluster.check_log(db, writers)


def test_a_crash_between_many_databases(cluster):
    """Rule 11: each database has its own record of what is durable; after a crash of all nodes in
    the midst of checkpoints each is database plus log."""
    names = [f"crash{number}.db" for number in range(4)]
    for name in names:
        cluster.create(name, *LOG_SCHEMA, "CREATE TABLE pad(x)",
                       "CREATE TRIGGER p AFTER INSERT ON log BEGIN INSERT INTO pad VALUES (randomblob(9000)); END")  # fmt: skip
    for _ in range(2):
        leader = cluster.leader()
        with cluster.writing(names[0], leader) as a, cluster.writing(names[1], leader) as b:
            writers = a + b
            wait_for(lambda w=writers: all(len(x.acknowledged()) > 150 for x in w), 30, "some rows")
            for node in cluster.nodes:
                cluster.kill(node)
            for writer in writers:
                writer.kill()
        cluster.stop()
        cluster.start()
        for name, writer in zip(names, writers, strict=False):
            cluster.check_log(name, [writer])
        for name in names[2:]:
            cluster.same(name)


def test_a_savepoint_rolled_back_after_a_spill(cluster, db):
    """no-lost-ack. SQLite before 3.54 commits such a transaction without the salts and checksums of
    its frames, so that no recovery would find it. Every node must have it all the same."""
    cluster.create(
        db,
        "PRAGMA journal_mode = wal",
        "CREATE TABLE t(i INTEGER PRIMARY KEY, x)",
        "CREATE TABLE done(n)",
    )
    node = cluster.followers()[0]
    with node.client(db) as app:
        app.run("PRAGMA cache_size = 5")
        app.run("BEGIN")
        for _ in range(400):
            app.run("INSERT INTO t(x) VALUES (hex(randomblob(100)))")
        app.run("COMMIT")
        for n in range(12):
            app.run("BEGIN IMMEDIATE")
            app.run("SAVEPOINT s")
            app.run("UPDATE t SET x = lower(x) || i")
            # Spilled a second time are pages of the last frames only.
            app.run("UPDATE t SET x = x || 'a' WHERE i > 350")
            app.run("ROLLBACK TO s")
            app.run(f"UPDATE t SET x = x || 'b' WHERE i % 40 < {n}")
            app.run(f"INSERT INTO done VALUES ({n})")
            app.run("COMMIT")
            # Another node writes on what it was given.
            cluster.leader().sql(db, "INSERT INTO t(x) VALUES ('elsewhere')", timeout=10)
    cluster.same(db)
    count = "SELECT count(DISTINCT n) FROM done"
    for each in cluster.nodes:
        assert each.sql(db, count) == [[12]], each
        assert each.sql(db, "PRAGMA integrity_check") == [["ok"]], each
