"""`engine: litefs` with a real LiteFS: three nodes, and what may happen to them."""

import json
import os
import shutil
import signal
import statistics
import subprocess
from pathlib import Path

import pytest
from devcluster import LOG_SCHEMA, is_alive, run, wait_for
from litefs_cluster import now

# Rounds of what is repeated under load; `make torture` does more.
ROUNDS = int(os.environ.get("LITEFS_PY_ROUNDS", "6"))
# At a time to live of 3 s: src/litefs/timing.rs, and what it takes to choose and to acquire.
FAILOVER = 6.0


def rows(node, db):
    return {k for _, k in node.sql(db, "SELECT who, k FROM log")}


def ended_with_99(cluster):
    return [node for node in cluster.nodes if "could not be applied" in node.log()]


def test_roles_and_health(cluster, db):
    """one-primary; the API says of this engine what it says of the other."""
    (leader,) = cluster.primaries()
    for node in cluster.nodes:
        replica = node is not leader
        assert node.ask("/primary")[0] == (503 if replica else 200)
        assert node.ask("/replica?lag=5s")[0] == (200 if replica else 503)
        assert node.ask("/health")[0] == node.ask("/readiness")[0] == 200
        status = node.ask("/cluster")[1]
        assert status["leader"] == leader.name and status["serving"]
        assert [m["role"] for m in status["members"] if m["name"] == leader.name] == ["leader"]

        def is_told(node=node):
            told = node.databases().get(db, {})
            # Its size is looked at after its position was.
            is_new = told.get("position") == node.position(db) and told["pages"] > 1
            return told if is_new else None

        told = wait_for(is_told, 5, f"the position that LiteFS has on {node}")
        assert (node.mount / f"{db}-pos").read_text().strip() == told["position"]
        assert told["journal"] == "wal"
        marker = node.mount / ".primary"
        assert (marker.read_text().strip() if replica else marker.exists()) == (
            leader.name if replica else False
        )
    leader.sql(db, "INSERT INTO log VALUES ('b', 1)")
    other = cluster.followers()[0]
    other.barrier()
    assert rows(other, db) == {1}
    history = other.ask("/history")[1]
    assert history[-1]["leader"] == leader.name


def test_nothing_listens_off_loopback(cluster):
    """no-open-door: LiteFS knows no authentication, so nobody else may reach it."""
    ports = {node.port for node in cluster.nodes}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, port = fields[1].split(":")
            if fields[3] == "0A" and int(port, 16) in ports:
                assert address == "0100007F", (table, line)
                found.add(int(port, 16))
    assert found == ports


def test_the_facade_lets_nobody_in_without_its_token(cluster):
    """no-open-door: and the token is in no log."""
    text = (cluster.nodes[0].folder / "data/litefs-daemon/litefs.yml").read_text()
    token = text.split("http://litefs:")[1].split("@")[0]
    url = "http://" + text.split("@")[1].split('"')[0]
    mode = (cluster.nodes[0].folder / "data/litefs-daemon/litefs.yml").stat().st_mode & 0o777
    assert mode == 0o600
    for node in cluster.nodes:
        assert token not in node.log()
    for given, code in ((None, "403"), ("x", "403"), (token, "200")):
        header = ["-H", f"X-Consul-Token: {given}"] if given else []
        asked = subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *header,
             f"{url}/v1/kv/litefs/primary/clusterid"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
        assert asked.stdout == code, (given, asked)


def switched_over(leader, refused=None):
    """Once another node's LiteFS is attached; until then it says that none is. LiteFS tries to get its HALT
    between two transactions, and may not for 5 s where one follows the other without a pause: that is a
    refusal, and nothing has changed."""

    def asked():
        code, told = leader.by_socket("/switchover", "POST", {}, timeout=30)
        if code == 200:
            return told
        assert "is attached" in told["error"] or "did not answer HALT" in told["error"], told
        if refused is not None and "HALT" in told["error"]:
            refused.append(told["error"])
        return None

    return wait_for(asked, 30, "a switchover")


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_switchovers_under_load_lose_nothing(cluster, db, tmp_path, mode, measured):
    """no-lost-ack, for a planned switchover; LiteFS never ends with 99."""
    if mode == "delete":
        db = "rollback.db"
        cluster.leader().sql(db, "PRAGMA journal_mode = delete", *LOG_SCHEMA)
        cluster.together(db)
    pauses, refused = [], []
    with cluster.roving(db, tmp_path / "log") as rover:
        rover.wrote(now())
        for _ in range(ROUNDS):
            leader = cluster.leader()
            moment = now()
            told = switched_over(leader, refused)
            rover.wrote(now(), 10)
            pauses.append(rover.gap(moment))
            assert cluster.leader().name == told["leader"] != leader.name
    cluster.same(db)
    missing = rover.acknowledged() - rows(cluster.leader(), db)
    assert not missing, f"{len(missing)} acknowledged rows are lost"
    assert not ended_with_99(cluster)
    measured(
        f"switchover under load, {mode}: pause {statistics.median(pauses) * 1000:.0f} ms median, "
        f"{max(pauses) * 1000:.0f} ms worst of {len(pauses)}, 0 of {len(rover.acknowledged())} lost"
        f"{f', refused {len(refused)} times' if refused else ''}"
    )


def test_a_switchover_to_a_named_node_and_one_that_cannot_be(cluster, db):
    leader, target = cluster.leader(), cluster.followers()[0]
    code, told = target.by_socket("/switchover", "POST", {"to": leader.name})
    assert code == 412, told
    code, told = target.by_socket("/switchover", "POST", {"to": "nobody"})
    assert code == 412, told
    code, told = leader.by_socket("/switchover", "POST", {"to": target.name}, timeout=30)
    assert (code, told["leader"]) == (200, target.name)
    wait_for(target.is_primary, 10, "the target to be primary")
    assert target.ask("/history")[1][-1]["cause"] == "switchover"


def test_litefs_is_killed(cluster, db, tmp_path, measured):
    """Its session ends at once; it is started again, its mount taken away before."""
    with cluster.roving(db, tmp_path / "log") as rover:
        pauses = [rover.gap(moment) for moment in cluster.litefs_killed(rover, ROUNDS)]
    cluster.same(db)
    lost = len(rover.acknowledged() - rows(cluster.leader(), db))
    assert not ended_with_99(cluster)
    measured(
        f"SIGKILL of LiteFS: writes again after {statistics.median(pauses) * 1000:.0f} ms median, "
        f"{max(pauses) * 1000:.0f} ms worst of {len(pauses)}; {lost} acknowledged rows lost in all"
    )
    assert max(pauses) < FAILOVER


def test_the_daemon_is_killed(cluster, db, tmp_path, measured):
    """one-primary: LiteFS ends with its daemon; another node takes over when the lease has run out."""
    with cluster.roving(db, tmp_path / "log") as rover:
        rover.wrote(now())
        leader = cluster.leader()
        litefs = leader.litefs_pid()
        moment = now()
        cluster.kill(leader)
        wait_for(lambda: not is_alive(litefs), 2, "the end of LiteFS")
        rover.wrote(now())
        pause = rover.gap(moment)
        assert cluster.leader() is not leader
    cluster.restart(leader)
    cluster.same(db)
    measured(f"SIGKILL of the primary's daemon: writes elsewhere after {pause:.2f} s")
    assert pause < FAILOVER + 10


def test_the_daemon_is_paused(cluster, db, tmp_path, measured):
    """one-primary, pause-proof: its guard ends LiteFS before another node becomes primary."""
    with cluster.roving(db, tmp_path / "log") as rover:
        rover.wrote(now())
        leader = cluster.leader()
        litefs = leader.litefs_pid()
        moment = now()
        cluster.pause(leader)
        wait_for(lambda: not is_alive(litefs), 10, "the end of LiteFS")
        dead = now() - moment
        assert not [node for node in cluster.followers_of(leader) if node.is_primary()]
        wait_for(lambda: any(n.is_primary() for n in cluster.followers_of(leader)), 15)
        rover.wrote(now())
        pause = rover.gap(moment)
        cluster.resume(leader)
    cluster.heal()
    cluster.same(db)
    measured(
        f"the primary's daemon paused: LiteFS ended after {dead:.2f} s, writes elsewhere after {pause:.2f} s"
    )
    assert pause < FAILOVER + 1


def test_litefs_hangs(cluster, db, tmp_path, measured):
    """The daemon kills a LiteFS that does not answer."""
    with cluster.roving(db, tmp_path / "log") as rover:
        rover.wrote(now())
        leader = cluster.leader()
        litefs = leader.litefs_pid()
        moment = now()
        os.kill(litefs, signal.SIGSTOP)
        wait_for(lambda: not is_alive(litefs), 15, "the end of LiteFS")
        rover.wrote(now())
        pause = rover.pause_after(moment)
    cluster.heal()
    cluster.same(db)
    measured(f"LiteFS paused: killed, and writes again after {pause:.2f} s")


def test_without_a_majority_nobody_writes(cluster, db):
    """one-primary: a primary whose renewals no quorum confirms gives up, in bounded time."""
    leader = cluster.leader()
    for node in cluster.followers_of(leader):
        cluster.pause(node)
    began = now()
    wait_for(lambda: not leader.info().get("isPrimary"), 10, "the end of the primary")
    assert now() - began < 5
    for node in cluster.followers_of(leader):
        cluster.resume(node)
    cluster.heal()
    cluster.write(db, "INSERT INTO log VALUES ('b', 1)")
    cluster.same(db)


def test_what_has_diverged_is_set_aside(cluster, db, tmp_path):
    """nothing-discarded: what only the old primary had is kept before LiteFS overwrites it."""
    leader, others = cluster.leader(), cluster.followers()
    for node in others:
        cluster.pause(node)
    leader.sql(db, "INSERT INTO log VALUES ('only here', 1)")
    kept = leader.position(db)
    for node in others:
        # Or it would find the transaction in its socket.
        cluster.kill_litefs(node)
    cluster.kill(leader)
    for node in others:
        cluster.resume(node)
    wait_for(lambda: any(n.is_primary() for n in others), 20, "another primary")
    new = cluster.leader()
    for number in range(3):
        new.sql(db, f"INSERT INTO log VALUES ('elsewhere', {number})")
    cluster.restart(leader)
    cluster.same(db)
    assert ("only here",) not in {tuple(r) for r in leader.sql(db, "SELECT who FROM log")}
    code, listed = leader.by_socket("/diverged")
    listed = [kept for kept in listed if kept["id"].startswith(db)]
    assert code == 200 and len(listed) == 1, listed
    (one,) = listed[0]["databases"]
    assert one["name"] == db and int(one["position"][:16], 16) >= int(kept[:16], 16)
    assert new.name in listed[0]["why"]
    out = tmp_path / "kept.db"
    config = leader.folder / "config.yml"
    cluster.command("diverged", "export", "--config", config, listed[0]["id"], out)
    shown = subprocess.run(
        ["sqlite3", out, "SELECT who FROM log"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split("\n")[0] == "only here"
    code, metrics = leader.by_socket("/metrics")
    assert "litefs_py_set_aside_total 0" not in metrics
    assert not any(db in kept["id"] for n in others for kept in n.by_socket("/diverged")[1])


def test_a_database_that_litefs_cannot_open_is_fetched(cluster, db):
    """converges: bare LiteFS does not start again; nothing-discarded: its files are kept."""
    leader, node = cluster.leader(), cluster.followers()[0]
    before = len(node.by_socket("/diverged")[1])
    cluster.kill(node, signal.SIGTERM)
    file = node.folder / "data/litefs/dbs" / db / "database"
    with file.open("r+b") as database:
        database.seek(4096 + 100)
        database.write(b"rotten")
    leader.sql(db, "INSERT INTO log VALUES ('b', 1)")
    cluster.restart(node)
    cluster.same(db)
    listed = node.by_socket("/diverged")[1]
    assert len(listed) == before + 1
    assert any("could not open it" in one["why"] for one in listed)


def test_an_empty_node_comes_back(cluster, db):
    """caught-up, converges: it is never primary before it has everything."""
    leader, node = cluster.leader(), cluster.followers()[0]
    cluster.kill(node, signal.SIGTERM)
    shutil.rmtree(node.folder / "data/litefs")
    leader.sql(db, "INSERT INTO log VALUES ('b', 1)")
    cluster.restart(node)
    cluster.same(db)
    assert not [kept for kept in node.by_socket("/diverged")[1] if db in kept["id"]]


def test_a_primary_is_stopped_in_order(cluster, db, tmp_path, measured):
    """It hands over first: nothing is lost, and nothing waits for a lease to run out."""
    with cluster.roving(db, tmp_path / "log") as rover:
        rover.wrote(now())
        leader = cluster.leader()
        moment = now()
        cluster.kill(leader, signal.SIGTERM)
        rover.wrote(now())
        pause = rover.gap(moment)
    cluster.restart(leader)
    cluster.same(db)
    missing = rover.acknowledged() - rows(cluster.leader(), db)
    assert not missing
    measured(f"stop in order of the primary's node: pause {pause * 1000:.0f} ms")
    assert pause < 3


def test_litefs_own_handoff_still_works(cluster, db):
    """People have scripts that use it."""
    leader, target = cluster.leader(), cluster.followers()[0]
    assert target.litefs("/promote", "POST")[0] == 200
    wait_for(target.is_primary, 10, "the promoted node to be primary")
    wait_for(lambda: not leader.is_primary(), 5, "the end of the primary before")
    target.sql(db, "INSERT INTO log VALUES ('b', 1)")
    cluster.same(db)


def test_a_mount_that_was_taken_away_comes_back(cluster, db):
    node = cluster.followers()[0]
    litefs = node.litefs_pid()
    subprocess.run(["umount", "-l", node.mount], check=True, timeout=20)
    wait_for(lambda: not is_alive(litefs), 15, "the end of LiteFS")
    cluster.heal()
    cluster.same(db)


def test_the_whole_cluster_starts_again(cluster, db):
    """With its data, its id and its history."""
    cluster.leader().sql(db, "INSERT INTO log VALUES ('b', 1)")
    cluster.together(db)
    before = cluster.leader().ask("/history")[1]
    assert cluster.stop() == 0
    assert not cluster.leftovers()
    cluster.start()
    cluster.same(db)
    assert rows(cluster.leader(), db) == {1}
    assert cluster.leader().ask("/history")[1][: len(before)] == before


def test_another_engine_is_refused(cluster):
    """A folder of the one engine is not opened by the other."""
    node = cluster.followers()[0]
    config = node.folder / "config.yml"
    text = config.read_text()
    cluster.kill(node, signal.SIGTERM)
    try:
        config.write_text(text.replace("engine: litefs", "engine: embedded"))
        ended = cluster.command("node", "--config", config, check=False, deadline=20)
        assert ended.returncode == 78, ended
        assert "of a cluster with the engine litefs" in ended.stderr
    finally:
        config.write_text(text)
    cluster.restart(node)


def test_an_application_is_run(make_cluster, tmp_path):
    """`litefs.exec`: started when the node is ready, told to stop before LiteFS goes, its exit code passed
    on."""
    one = make_cluster(nodes=1)
    node = one.nodes[0]
    node.sql("app.db", "PRAGMA journal_mode = wal", "CREATE TABLE t(x)")
    config, log = node.folder / "config.yml", tmp_path / "app.log"
    script = (
        f'trap \'sqlite3 {node.db("app.db")} "INSERT INTO t VALUES (2)"; echo stopped >> {log}; '
        f"exit 7' TERM; sqlite3 {node.db('app.db')} 'INSERT INTO t VALUES (1)'; "
        f'echo "$0 $1" >> {log}; while true; do sleep 0.05; done'
    )
    one.kill(node, signal.SIGTERM)
    text = config.read_text()
    assert "exec: []" in text
    command = ["sh", "-c", script, "a  b", 'c "d"']
    config.write_text(text.replace("exec: []", f"exec: {json.dumps(command)}"))
    path = {
        **os.environ,
        "PATH": f"{one.binary.parent}:{one.folder.parent / 'bin'}:{os.environ['PATH']}",
    }
    daemon = subprocess.Popen([one.program, "node", "--config", config], env=path)
    try:
        wait_for(lambda: log.exists() and log.read_text(), 30, "the application")
        daemon.terminate()
        assert daemon.wait(30) == 0
        assert log.read_text() == 'a  b c "d"\nstopped\n'
        # It ends by itself: so does the node, with its exit code.
        config.write_text(text.replace("exec: []", 'exec: [sh, -c, "exit 5"]'))
        ended = run(one.program, "node", "--config", config, deadline=60, check=False, env=path)
        assert ended.returncode == 5, ended
    finally:
        daemon.kill()
        daemon.wait(10)
        config.write_text(text)
    one.restart(node)
    assert node.sql("app.db", "SELECT x FROM t") == [[1], [2]]
