"""`litefs-py convert`: the data of stopped nodes from one engine to the other, with a real LiteFS on the one
side and the embedded engine on the other."""

import hashlib
import json
import re
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from bare import Bare, Consul, position
from cluster_fixtures import PROGRAM
from devcluster import LOG_SCHEMA, Cluster, run, wait_for
from litefs_cluster import LitefsCluster, now

DATA, NO_INPUT, CANNOT_CREATE, TRY_AGAIN, USAGE = 65, 66, 73, 75, 64

MANY = (
    "WITH RECURSIVE s(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM s WHERE k < {n}) "
    "INSERT INTO log SELECT '{who}', k FROM s"
)


def many(who, n=2000):
    return MANY.format(who=who, n=n)


def tree(folder):
    """All files below, by their bytes: the original is kept as it was."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def set_config(node, engine, data):
    """The node has another engine, and another data folder, from its next start on."""
    file = node / "config.yml"
    text = re.sub(r"(?m)^engine: .*$", f"engine: {engine}", file.read_text())
    file.write_text(re.sub(r"(?m)^data_dir: .*$", f"data_dir: {node / data}", text))


def convert(node, to, *more, check=True):
    config = ("--config", node / "config.yml")
    return run(PROGRAM, "convert", "--to", to, *config, *more, check=check)


def converted(node, to, old, new):
    """Takes a node from folder `old` to folder `new`; answers what the command says."""
    before = tree(node / old)
    set_config(node, to, new)
    told = json.loads(convert(node, to, "--from", node / old, "--json").stdout)
    assert tree(node / old) == before, "the original is kept as it was"
    for database in told["databases"]:
        assert database["checksum_before"] == database["checksum_after"]
        assert database["position"].endswith(database["checksum_after"])
        assert database["bytes"] == database["pages"] * 4096
    return told


def count(node, name):
    return node.sql(name, "SELECT count(*) FROM log")[0][0]


@pytest.fixture(scope="module")
def moved(make_cluster):
    """A cluster with `engine: litefs` in order at its end: two databases, n3 stopped before the last rows."""
    cluster = make_cluster()
    cluster.create("wal.db", *LOG_SCHEMA)
    cluster.write("rollback.db", "PRAGMA journal_mode = delete")
    cluster.leader().sql("rollback.db", *LOG_SCHEMA, many("old", 300))
    cluster.leader().sql("wal.db", many("old", 20_000))
    for name in ("wal.db", "rollback.db"):
        cluster.together(name)
    cluster.kill(cluster.node("n3"), signal.SIGTERM)
    cluster.write("wal.db", many("late", 500))
    expected = {name: cluster.leader().content(name) for name in ("wal.db", "rollback.db")}
    positions = {name: cluster.together(name) for name in expected}
    assert cluster.stop() == 0
    return cluster, expected, positions


def test_there_and_back(moved, measured):
    """LiteFS, embedded, LiteFS: three nodes, all rows, the same positions."""
    cluster, expected, positions = moved
    folder, nodes = cluster.folder, [cluster.folder / f"n{number}" for number in (1, 2, 3)]
    begun = time.monotonic()
    told = [converted(node, "embedded", "data", "moved") for node in nodes]
    assert [one["part"] for one in told] == ["founder", "newcomer", "newcomer"]
    for one in told[:2]:
        assert {db["name"]: db["position"] for db in one["databases"]} == positions
    embedded = Cluster(folder, program=PROGRAM)
    try:
        embedded.start()
        wait_for(lambda: all(node.is_ready() for node in embedded.nodes), 120, "all nodes ready")
        measured(f"three nodes, litefs to embedded: {time.monotonic() - begun:.1f} s")
        for name, content in expected.items():
            assert embedded.settle(name, 60) == positions[name]
            assert {node.content(name) for node in embedded.running()} == {content}
        # n2 had all of it, n3 all but a few pages: only those came, and nothing was set aside.
        for number, most in (("n2", 0), ("n3", 60)):
            node = embedded.node(number)
            came = re.findall(
                r"came from another node.*database=(?:\x1b\[0m)?wal.db.*?bytes=(\d+) there_before=(\d+)",
                re.sub(r"\x1b\[[0-9;]*m", "", node.log()),
            )
            assert came, "it came by pages"
            assert (int(came[-1][0]) - int(came[-1][1])) // 4096 <= most, came
            assert node.ask("/diverged")[1] == []
        for node in embedded.nodes:
            node.sql("wal.db", f"INSERT INTO log VALUES ('{node.name}', 1)")
        embedded.same("wal.db")
        assert count(embedded.nodes[0], "wal.db") == 20_503
        back = {name: embedded.settle(name) for name in expected}
        contents = {name: embedded.nodes[0].content(name) for name in expected}
        assert embedded.stop() == 0
    finally:
        embedded.clear()
    begun = time.monotonic()
    for node in nodes:
        told = converted(node, "litefs", "moved", "back")
        assert {db["name"]: db["position"] for db in told["databases"]} == back
    cluster.start()
    cluster.heal()
    measured(f"three nodes, embedded to litefs: {time.monotonic() - begun:.1f} s")
    for name, content in contents.items():
        assert cluster.together(name, 60) == back[name]
        assert {node.content(name) for node in cluster.running()} == {content}
    cluster.write("wal.db", "INSERT INTO log VALUES ('again', 1)")
    cluster.same("wal.db")
    assert count(cluster.followers()[0], "wal.db") == 20_504


def together(nodes, *what):
    """On all nodes at once, as on machines of their own."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda node: converted(node, *what), nodes))


def test_an_application_moves_and_loses_nothing(make_cluster, tmp_path, measured):
    """It is stopped first; when all nodes are at one position, they are, too. All it was acknowledged is there
    afterwards; how long it stood still is measured."""
    cluster = make_cluster()
    cluster.create("load.db", *LOG_SCHEMA, many("old", 5000))
    with cluster.roving("load.db", tmp_path / "before") as rover:
        rover.wrote(now(), 50)
    moment = max(when for what, _, when, _ in rover.lines() if what == "+")
    position = cluster.together("load.db")
    assert cluster.stop() == 0
    stopped = now()
    nodes = [cluster.folder / name for name in ("n1", "n2", "n3")]
    told = together(nodes, "embedded", "data", "moved")
    databases = [one["databases"] for one in told]
    assert [(one["position"], one["cut"]) for (one,) in databases] == [(position, False)] * 3
    done = now()
    embedded = Cluster(cluster.folder, program=PROGRAM)
    try:
        embedded.start()
        with LitefsCluster.roving(embedded, "load.db", tmp_path / "after") as after:
            after.wrote(now())
        pause = min(when for what, _, when, _ in after.lines() if what == "+") - moment
        embedded.same("load.db")
        rows = embedded.leader().sql(
            "load.db", "SELECT k, count(*) FROM log WHERE who = 'rover' GROUP BY k"
        )
        there = dict(rows)
        for k in rover.acknowledged() | after.acknowledged():
            assert there[k] == (k in rover.acknowledged()) + (k in after.acknowledged()), k
        measured(
            f"an application from litefs to embedded: {pause:.1f} s without a row, of it "
            f"{stopped - moment:.1f} s to stop and {done - stopped:.1f} s to convert"
        )
        assert embedded.stop() == 0
    finally:
        embedded.clear()


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A node of the embedded engine with a database, stopped in order; its folder."""
    folder = tmp_path_factory.mktemp("one") / "dev"
    cluster = Cluster(folder, nodes=1, program=PROGRAM).start()
    try:
        cluster.create("app.db", *LOG_SCHEMA, many("a"))
        cluster.leader().sql("app.db", many("b", 100))
        position = cluster.settle("app.db")
        assert cluster.stop() == 0
    finally:
        cluster.clear()
    return folder / "n1", position


def test_litefs_alone_opens_what_was_converted(one, litefs, tmp_path):
    """Its position is the one that the node had, and it goes on from there; also its own check of all pages
    at a start finds nothing."""
    node, told = one
    consul = Consul()
    bare = Bare(litefs, tmp_path / "bare", consul)
    convert(node, "litefs", "--into", bare.data)
    try:
        bare.start().primary()
        assert position(bare.mount, "app.db") == told
        connection = bare.open("app.db")
        assert connection.execute("SELECT count(*) FROM log").fetchone() == (2100,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.execute("INSERT INTO log VALUES ('litefs', 1)")
        connection.close()
        txid = int(told.split("/")[0], 16) + 1
        assert position(bare.mount, "app.db").startswith(f"{txid:016x}/")
        assert bare.stop() == 0
        bare.start().primary()
        connection = bare.open("app.db")
        assert connection.execute("SELECT count(*) FROM log").fetchone() == (2101,)
        connection.close()
        assert "checksum" not in bare.log(), bare.log()
    finally:
        bare.stop(signal.SIGKILL)
        consul.close()


def refused(done, code, *words):
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    for word in words:
        assert word in done.stderr, done.stderr
    return done


def test_what_is_refused_changes_nothing(one, tmp_path):
    node, _ = one
    into = tmp_path / "into"
    refused(convert(node, "embedded", check=False), USAGE, "--from")
    refused(convert(node, "litefs", check=False), USAGE, "--into")
    refused(
        convert(node, "litefs", "--into", node / "data/litefs", check=False),
        USAGE,
        "within each other",
    )
    (tmp_path / "empty").mkdir()
    no = convert(node, "litefs", "--from", tmp_path / "empty", "--into", into, check=False)
    refused(no, NO_INPUT, "no data folder")
    no = convert(node, "embedded", "--from", tmp_path / "empty", "--into", into, check=False)
    refused(no, NO_INPUT)
    into.mkdir()
    (into / "clusterid").write_text("x")
    refused(convert(node, "litefs", "--into", into, check=False), CANNOT_CREATE, "clusterid")
    assert tree(into) == {"clusterid": hashlib.sha256(b"x").hexdigest()}


def test_a_page_that_is_not_what_it_was_is_found(one, tmp_path):
    """In either direction, before anything is in the new folder."""
    node, _ = one
    copy = tmp_path / "copy"
    run("cp", "-a", node / "data", copy)
    database = next(copy.glob("dbs/*/database"))
    with open(database, "r+b") as file:
        file.seek(3 * 4096 + 4000)
        byte = file.read(1)
        file.seek(3 * 4096 + 4000)
        file.write(bytes([byte[0] ^ 1]))
    done = convert(node, "litefs", "--from", copy, "--into", tmp_path / "a", check=False)
    refused(done, DATA, "by its record")
    assert list((tmp_path / "a").iterdir()) == []
    convert(node, "litefs", "--into", tmp_path / "litefs")
    with open(tmp_path / "litefs/dbs/app.db/database", "r+b") as file:
        file.seek(4096 + 4000)
        file.write(b"!")
    done = convert(
        node, "embedded", "--from", tmp_path / "litefs", "--into", tmp_path / "b", check=False
    )
    refused(done, DATA, "by the last LTX file")
    assert not (tmp_path / "b").exists()


def test_a_node_that_runs_or_was_killed_is_not_converted(tmp_path):
    cluster = Cluster(tmp_path / "dev", nodes=1, program=PROGRAM).start()
    try:
        cluster.create("app.db", *LOG_SCHEMA, many("a"))
        node, into = cluster.folder / "n1", tmp_path / "into"
        done = convert(node, "litefs", "--into", into, check=False)
        refused(done, TRY_AGAIN, "in use")
        cluster.leader().sql("app.db", many("b", 100))
        cluster.kill(cluster.leader())
        # What was committed last is in the log only.
        done = convert(node, "litefs", "--into", into, check=False)
        refused(done, DATA, "not stopped in order")
        assert list(into.iterdir()) == []
        cluster.heal()
        assert cluster.stop() == 0
        convert(node, "litefs", "--into", into)
        found = sqlite3.connect(f"file:{into}/dbs/app.db/database?immutable=1", uri=True)
        assert found.execute("SELECT count(*) FROM log").fetchone() == (2100,)
        found.close()
    finally:
        cluster.clear()


def test_what_was_cut_short_is_done_again_and_not_started(one, tmp_path):
    """`converting` marks a folder that is not whole: a node refuses it, the same command mends it."""
    node, told = one
    data, into = tmp_path / "litefs", tmp_path / "into"
    convert(node, "litefs", "--into", data)
    convert(node, "embedded", "--from", data, "--into", into)
    assert {path.name for path in into.iterdir()} == {"dbs", "raft"}
    # As if it had ended between the two.
    (into / "converting").mkdir()
    (into / "raft").rename(into / "converting/raft")
    config = tmp_path / "config.yml"
    text = re.sub(r"(?m)^data_dir: .*$", f"data_dir: {into}", (node / "config.yml").read_text())
    config.write_text(text)
    done = run(PROGRAM, "node", "--config", config, check=False)
    assert done.returncode == 78, done.stderr
    assert "convert" in done.stderr
    done = convert(node, "embedded", "--from", data, "--into", into, "--json")
    assert json.loads(done.stdout)["databases"][0]["position"] == told
    assert {path.name for path in into.iterdir()} == {"dbs", "lock", "raft"}


def test_a_litefs_yml_becomes_a_configuration(tmp_path):
    """What is printed is a configuration of a node; what it has no counterpart for is said beside it."""
    file, made = tmp_path / "litefs.yml", tmp_path / "config.yml"
    file.write_text(
        "fuse: {dir: /data}\nexec: 'app --port 80'\nproxy: {addr: ':8080'}\n"
        "lease: {type: consul, hostname: ${WHO}, candidate: ${WHO == 'a'}, consul: {ttl: 5s}}\n"
    )
    done = run("env", "WHO=b", PROGRAM, "config", "import-litefs", file, "--cluster", "c")
    made.write_text(done.stdout)
    run(PROGRAM, "config", "check", made)
    shown = run(PROGRAM, "config", "show", made).stdout
    for line in ("engine: litefs", "  path: /data", "  ttl: 5s", "  name: b", "cluster: c"):
        assert line in shown.splitlines(), shown
    for word in ("proxy: ", "lease.candidate: ", "members: "):
        assert f"litefs-py: {word}" in done.stderr
    file.write_text("fuse: {dirr: /data}\n")
    done = run(PROGRAM, "config", "import-litefs", file, check=False)
    assert done.returncode == 78 and 'did you mean "dir"' in done.stderr
