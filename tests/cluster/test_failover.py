"""Nodes and applications are killed and paused under load: nothing acknowledged is lost, and it
goes on by itself."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from devcluster import LOG_SCHEMA, Writer, die_with_parent, wait_for

# Not a figure to be proud of: a bound beyond which something is broken. Figures: make bench.
GENEROUS = 10


def go_on(writers, moment, rows=20):
    """Every writer wrote this many rows after that moment."""
    wait_for(lambda: all(w.after(moment) >= rows for w in writers), 30, "writes after the fault")


def test_the_leader_is_killed(cluster, db, measured):
    """no-lost-ack; applications elsewhere see a pause, not an error; the node converges."""
    cluster.create(db, *LOG_SCHEMA)
    leader, survivors = cluster.leader(), cluster.followers()
    with cluster.writing(db, *survivors) as writers:
        moment = time.time()
        cluster.kill(leader)
        go_on(writers, moment)
        assert cluster.leader() in survivors
        cluster.restart(leader)
        moment = time.time()
        go_on(writers, moment)
    assert [w.failures() for w in writers] == [[], []]
    cluster.check_log(db, writers)
    gap = max(w.gap(moment - 60) for w in writers)
    measured(f"pause after SIGKILL of the leader: {gap:.2f} s")
    assert gap < GENEROUS


def test_the_leader_is_killed_again_and_again(cluster, db):
    """Rules 5 and 6: equal statements, an ever-changing leader: each counted once or not at all."""
    cluster.create(db, *LOG_SCHEMA)
    tick = "UPDATE counter SET n = n + 1"
    writers = []
    for _ in range(3):
        leader, survivors = cluster.leader(), cluster.followers()
        with cluster.writing(db, *survivors, statement=tick) as round_writers:
            moment = time.time()
            cluster.kill(leader)
            go_on(round_writers, moment, 5)
        writers += round_writers
        cluster.restart(leader)
    cluster.same(db)
    done = sum(len(w.acknowledged()) for w in writers)
    unknown = sum(len(w.unknown()) for w in writers)
    count = cluster.leader().sql(db, "SELECT n FROM counter")[0][0]
    assert done <= count <= done + unknown


def test_an_application_on_the_killed_leader(cluster, db):
    """What it was told is true, whatever happened to the node."""
    cluster.create(db, *LOG_SCHEMA)
    leader = cluster.leader()
    writer = Writer(leader.db(db), "local", cluster.folder / "local")
    wait_for(lambda: len(writer.acknowledged()) > 20, what="some rows")
    cluster.kill(leader)
    writer.kill()
    cluster.leader()
    cluster.check_log(db, [writer])
    cluster.restart(leader)
    cluster.check_log(db, [writer])


def test_the_leader_is_frozen(cluster, db, measured):
    """SIGSTOP: its lease and its connections live on, and yet another leads; woken, it follows
    (one-primary, converges)."""
    cluster.create(db, *LOG_SCHEMA)
    leader, survivors = cluster.leader(), cluster.followers()
    with cluster.writing(db, *survivors, timeout=15) as writers:
        moment = time.time()
        cluster.pause(leader)
        go_on(writers, moment)
        cluster.resume(leader)
        woken = time.time()
        go_on(writers, woken)
        wait_for(lambda: len(cluster.primaries()) == 1, what="one primary")
    assert [w.failures() for w in writers] == [[], []]
    cluster.check_log(db, writers)
    gap = max(w.gap(moment) for w in writers)
    measured(f"pause after SIGSTOP of the leader: {gap:.2f} s")
    assert gap < GENEROUS


def test_a_follower_is_killed(cluster, db, measured):
    """A lock that it held is free again; the majority goes on."""
    cluster.create(db, *LOG_SCHEMA)
    leader, (victim, other) = cluster.leader(), cluster.followers()
    with cluster.writing(db, victim) as [lost], cluster.writing(db, leader, other) as writers:
        moment = time.time()
        cluster.kill(victim)
        lost.kill()
        go_on(writers, moment)
        cluster.restart(victim)
    assert [w.failures() for w in writers] == [[], []]
    cluster.check_log(db, [*writers, lost])
    measured(f"pause after SIGKILL of a follower: {max(w.gap(moment) for w in writers):.2f} s")


def test_all_nodes_are_killed(cluster, db):
    """no-lost-ack, Rules 9 to 13: everything acknowledged is there after the restart, and the
    checksums agree."""
    cluster.create(db, *LOG_SCHEMA)
    with cluster.writing(db, *cluster.nodes) as writers:
        wait_for(lambda: all(len(w.acknowledged()) > 20 for w in writers), what="some rows")
        for node in cluster.nodes:
            cluster.kill(node)
        for writer in writers:
            writer.kill()
    restart_all(cluster)
    cluster.check_log(db, writers)
    with cluster.writing(db, *cluster.nodes) as more:
        wait_for(lambda: all(w.acknowledged() for w in more), what="new rows")
    cluster.check_log(db, writers + more)


def restart_all(cluster):
    """`restart` waits until its node is ready, which needs a second one: both at once."""
    cluster.stop()
    cluster.start()


def test_a_killed_application_holds_nothing(cluster, db):
    """Killed at any moment, also inside COMMIT: its locks are free, nothing uncommitted shows, what
    was acknowledged stays (Rule 2)."""
    cluster.create(db, *LOG_SCHEMA)
    writers = []
    for number in range(24):
        node = cluster.nodes[number % 3]
        writer = Writer(node.db(db), f"victim{number}", cluster.folder / f"victim{number}")
        wait_for(lambda w=writer, n=number: len(w.acknowledged()) > n % 7, what="some rows")
        writer.kill()
        writers.append(writer)
        with cluster.nodes[(number + 1) % 3].client(db, timeout=3) as client:
            client.run("INSERT INTO log VALUES ('check', ?)", number)
    cluster.check_log(db, writers)


def test_an_application_killed_inside_a_transaction(cluster, db):
    """Begun, spilled, never committed: gone, and the lock is free at once."""
    cluster.create(db, *LOG_SCHEMA)
    for node, other in zip(cluster.nodes, cluster.nodes[1:] + cluster.nodes[:1], strict=True):
        client = node.client(db)
        client.run("PRAGMA cache_size = 5")
        client.run("BEGIN IMMEDIATE")
        client.run("INSERT INTO log SELECT hex(randomblob(500)), rowid FROM pragma_function_list")
        client.kill()
        other.sql(db, "INSERT INTO log VALUES ('after', (SELECT count(*) FROM log))", timeout=2)
        node.sql(db, "INSERT INTO log VALUES ('here', (SELECT count(*) FROM log))", timeout=2)
    cluster.check_log(db, [])
    assert cluster.nodes[0].sql(db, "SELECT n FROM counter") == [[6]]


def test_a_switchover_under_load(cluster, db, measured):
    """Planned: no statement fails; the named node leads."""
    cluster.create(db, *LOG_SCHEMA)
    with cluster.writing(db, *cluster.nodes) as writers:
        for _ in range(3):
            target = cluster.followers()[0]
            moment = time.time()
            cluster.command("switchover", "--dir", cluster.folder, "--to", target.name, "--json")
            wait_for(target.is_primary, what=f"{target} to lead")
            go_on(writers, moment, 10)
    assert [w.failures() for w in writers] == [[], [], []]
    cluster.check_log(db, writers)
    measured(f"longest pause of a switchover: {max(w.gap(0) for w in writers):.2f} s")


def test_a_clean_stop_hands_over(cluster, db, measured):
    """SIGTERM of the leader: another leads at once, and no statement fails elsewhere."""
    cluster.create(db, *LOG_SCHEMA)
    leader, survivors = cluster.leader(), cluster.followers()
    with cluster.writing(db, *survivors) as writers:
        moment = time.time()
        cluster.kill(leader, signal.SIGTERM)
        go_on(writers, moment)
        assert cluster.leader() in survivors
    assert [w.failures() for w in writers] == [[], []]
    measured(f"pause at a clean stop of the leader: {max(w.gap(moment) for w in writers):.2f} s")
    cluster.restart(leader)
    cluster.check_log(db, writers)


def test_a_clean_stop_under_its_own_application(cluster, db):
    """The node stops while applications write on it: within a bounded time, what was acknowledged is
    there, and no COMMIT was cut off: each of the others failed before it."""
    cluster.create(db, *LOG_SCHEMA)
    for number in range(3):
        node, names = cluster.leader(), [f"local{number}.{n}" for n in range(2)]
        writers = [Writer(node.db(db), name, cluster.folder / f"{name}.{db}") for name in names]
        wait_for(lambda w=writers: all(len(x.acknowledged()) > 20 for x in w), what="some rows")
        cluster.kill(node, signal.SIGTERM)
        for writer in writers:
            writer.kill()
        cluster.restart(node)
        cluster.check_log(db, writers)
        for writer in writers:
            rows = node.sql(db, f"SELECT k FROM log WHERE who = '{writer.who}'")
            assert {k for (k,) in rows} == writer.acknowledged(), "committed, and not told so"


def test_a_clean_stop_does_not_wait_for_an_idle_transaction(cluster, db, measured):
    """A program that keeps its transaction open keeps the node for some seconds, not for ever."""
    cluster.create(db, *LOG_SCHEMA)
    node = cluster.leader()
    with node.client(db) as client:
        client.run("BEGIN IMMEDIATE")
        client.run("INSERT INTO log VALUES ('open', 1)")
        began = time.monotonic()
        cluster.kill(node, signal.SIGTERM)
        took = time.monotonic() - began
    measured(f"a clean stop with a transaction left open: {took:.1f} s")
    assert took < GENEROUS
    cluster.restart(node)
    assert node.sql(db, "SELECT count(*) FROM log") == [[0]]


@pytest.mark.skipif(not shutil.which("strace"), reason="there is no strace")
def test_a_stop_while_the_log_is_replayed(cluster, db, tmp_path):
    """bounded-answer: a node does as it is told also before it serves; the next start goes on."""
    cluster.create(db, *LOG_SCHEMA)
    node, log = cluster.followers()[0], tmp_path / "log"
    with cluster.writing(db, cluster.leader()) as writers:
        wait_for(lambda: len(writers[0].acknowledged()) > 500, 60, "a log that takes a while")
    node.barrier()
    cluster.kill(node)
    # Each write into a file takes a tenth of a second: the replay, a minute and more.
    slow = ["strace", "-f", "-q", "-o", tmp_path / "trace", "-e", "trace=pwrite64"]
    slow += ["-e", "inject=pwrite64:delay_enter=100000"]
    command = [*slow, cluster.program, "node", "--config", node.folder / "config.yml"]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, preexec_fn=die_with_parent
        )
    traced = None
    try:
        wait_for(lambda: "leads" in log.read_text(), 30, "a node that replays its log")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        traced = int(children.read_text())
        os.kill(traced, signal.SIGTERM)
        assert process.wait(GENEROUS) == 0
    finally:
        if process.poll() is None:
            if traced is not None:
                os.kill(traced, signal.SIGKILL)
            process.kill()
            process.wait()
    assert "not replayed to its end" in log.read_text()
    cluster.restart(node)
    cluster.check_log(db, writers)
