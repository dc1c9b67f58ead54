"""A node whose files are not what the log says (Rule 13): what is damaged is set aside and fetched
from the others by itself, and nobody is shown an empty database meanwhile."""

import shutil
import signal
import subprocess

import pytest
from devcluster import LOG_SCHEMA, run, shell, wait_for

FILL = "INSERT INTO t SELECT randomblob(3000) FROM pragma_function_list LIMIT 60"


@pytest.fixture(scope="module")
def settings():
    """The log is purged soon, so that it cannot bring back what is lost."""
    return {"log_purge_bytes: 64MiB": "log_purge_bytes: 2MiB"}


def slot(node, name):
    """The folder of a database's files on a node that does not run."""
    for folder in (node.folder / "data" / "dbs").iterdir():
        if bytes([len(name)]) + name.encode() in (folder / "record").read_bytes():
            return folder
    raise AssertionError(f"{node} has no files of {name}")


AT, BYTES = 50_000, 64


def rotten(path):
    return path.read_bytes()[AT : AT + BYTES]


def flip(path, at=AT):
    """Some bytes in the middle, as a rotten disk does; the size stays."""
    with open(path, "r+b") as file:
        file.seek(at)
        old = file.read(BYTES)
        file.seek(at)
        file.write(bytes(byte ^ 0x5A for byte in old))


def asides(node, name):
    """nothing-discarded: what was set aside of a database."""
    return sorted((node.folder / "data" / "aside").glob(f"{name}-*"))


def starting(cluster, node):
    """A restart that is not waited for: it ends when the node is ready."""
    return subprocess.Popen(
        [cluster.program, "dev", "--dir", cluster.folder, "restart", node.name],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def refuses(node, name):
    done = shell(node.db(name), "SELECT count(*) FROM t", check=False)
    return done.returncode != 0 and "unable to open" in done.stderr


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_rule_13_damaged_databases_are_fetched_while_the_cluster_writes(cluster, db, how):
    """converges: two at once, one of them written all the time."""
    quiet = f"quiet-{db}"
    cluster.create(quiet, "CREATE TABLE t(x)", FILL)
    cluster.create(db, *LOG_SCHEMA, "CREATE TABLE t(x)", FILL)
    node = cluster.followers()[0]
    others = [other for other in cluster.nodes if other is not node]
    # A clean stop brings everything into the database files.
    cluster.kill(node, signal.SIGTERM)
    cluster.restart(node)
    cluster.kill(node, how)
    damaged = {}
    for name in (quiet, db):
        path = slot(node, name) / "database"
        flip(path)
        damaged[name] = rotten(path)
    with cluster.writing(db, *others) as writers:
        cluster.restart(node)
        for name in (quiet, db):
            (aside,) = asides(node, name)
            assert rotten(aside / "database") == damaged[name]
            assert f"{aside}" in node.log()
        node.sql(db, "INSERT INTO t VALUES ('after')")
    cluster.check_log(db, writers)
    cluster.same(quiet)
    cluster.kill(node)
    cluster.restart(node)
    cluster.same(quiet)
    cluster.same(db)
    assert len(asides(node, db)) == 1, "the database that was fetched is sound after a restart"


def test_rule_13_closed_until_it_is_fetched(cluster, db):
    """Alone, a node with a damaged database refuses it, and serves the others."""
    sound = f"sound-{db}"
    for name in (db, sound):
        cluster.create(name, "CREATE TABLE t(x)", FILL)
    node = cluster.leader()
    cluster.kill(node, signal.SIGTERM)
    path = slot(node, db) / "database"
    flip(path)
    expected = path.stat().st_size
    for other in cluster.running():
        cluster.pause(other)
    restart = starting(cluster, node)
    try:
        wait_for(lambda: node.ask("/health")[0] != 0, 30, "the node's start")
        assert refuses(node, db)
        assert int(run("stat", "-c", "%s", node.db(db)).stdout) == expected
        for command in (["cat", node.db(db)], ["truncate", "-s", "0", node.db(db)]):
            assert run(*command, check=False).returncode != 0
        assert not node.is_ready()
        assert db in str(node.ask("/readiness")[1])
        assert node.sql(sound, "SELECT count(*) FROM t") == [[60]]
        assert refuses(node, db)
    finally:
        for other in cluster.nodes:
            cluster.resume(other)
        restart.wait(60)
    node.killed = False
    wait_for(node.is_ready, 30, "the node whole again")
    node.pid = next(told["pid"] for told in cluster.told() if told["name"] == node.name)
    cluster.same(db)
    assert node.sql(db, "SELECT count(*) FROM t") == [[60]]
    assert len(asides(node, db)) == 1


@pytest.mark.parametrize("damage", ["record", "folder", "header"])
def test_rule_13_what_the_log_no_longer_holds(cluster, db, damage):
    """The log was purged since the database was made: no replay brings it back."""
    cluster.create(db, "CREATE TABLE t(x)", FILL)
    node = cluster.followers()[0]
    for _ in range(12):
        cluster.leader().sql("filler.db", "CREATE TABLE IF NOT EXISTS t(x)", FILL)
    wait_for(lambda: (node.folder / "data" / "raft" / "state").exists(), 30, "a compaction")
    cluster.kill(node)
    files = slot(node, db)
    match damage:
        case "record":
            flip(files / "record", 0)
        case "folder":
            shutil.rmtree(files)
        case "header":
            (files / "database").write_bytes(b"")
    cluster.restart(node)
    # Also where nothing was committed since the log was purged.
    node.barrier()
    cluster.same(db)
    assert node.sql(db, "SELECT count(*) FROM t") == [[60]]
    node.sql(db, "INSERT INTO t VALUES (1)")
    cluster.same(db)


def test_rule_13_what_came_by_a_snapshot(cluster, db):
    """Nobody wrote into it since: the others know it as of its last transaction, this node as of the
    snapshot, which is later."""
    node = cluster.followers()[0]
    cluster.kill(node)
    cluster.create(db, "CREATE TABLE t(x)", FILL)
    leader = cluster.leader()
    # The log is kept for who is away, up to eight times as much.
    leader.sql("filler.db", "CREATE TABLE IF NOT EXISTS t(x)", *[FILL] * 300)
    cluster.restart(node)
    cluster.same(db)
    assert any("sending a snapshot" in other.log() for other in cluster.nodes)
    cluster.kill(node)
    flip(slot(node, db) / "database")
    cluster.restart(node)
    cluster.same(db)
    assert len(asides(node, db)) == 1


def test_rule_13_a_node_alone_serves_the_rest(make_cluster):
    """Nobody has what it lost: that one stays closed until it is removed, and can be made anew."""
    alone = make_cluster(nodes=1)
    (node,) = alone.nodes
    for name in ("rotten.db", "sound.db"):
        node.sql(name, "CREATE TABLE t(x)", FILL)
    alone.kill(node, signal.SIGTERM)
    flip(slot(node, "rotten.db") / "database")
    restart = starting(alone, node)
    wait_for(lambda: node.ask("/health")[0] == 200, 30, "the node's start")
    assert refuses(node, "rotten.db")
    wait_for(lambda: try_write(node, "sound.db"), 20, "a write to the other database")
    assert "no other node to fetch it from" in node.log()
    wait_for(lambda: run("rm", node.db("rotten.db"), check=False).returncode == 0, 20, "rm")
    assert restart.wait(60) == 0
    node.sql("rotten.db", "CREATE TABLE t(x)", "INSERT INTO t VALUES (1)")
    assert node.sql("rotten.db", "SELECT count(*) FROM t") == [[1]]
    assert len(asides(node, "rotten.db")) == 1
    node.pid = alone.told()[0]["pid"]


def try_write(node, name):
    done = shell(node.db(name), "INSERT INTO t VALUES (1)", check=False)
    return done.returncode == 0


def test_rule_13_a_staged_transaction_is_gone(cluster, db):
    """The log names a file that is no longer there: the database is fetched, from its first
    transaction on."""
    big = "INSERT INTO t SELECT randomblob(40000) FROM pragma_function_list LIMIT 60"
    cluster.create(db, "BEGIN", "CREATE TABLE t(x)", big, "COMMIT")
    node = cluster.followers()[0]
    cluster.kill(node)
    staged = list((node.folder / "data" / "staged").iterdir())
    assert staged
    for file in staged:
        file.unlink()
    cluster.restart(node)
    cluster.same(db)
    assert node.sql(db, "SELECT count(*) FROM t") == [[60]]
    assert "fetched anew" in node.log()


def test_a_check_names_the_rotten_copy_while_the_cluster_writes(cluster, db):
    """`check` reads every byte on every node beside writers; pages that rot beneath a running node are
    found, on that node."""
    cluster.create(db, "CREATE TABLE t(b)", FILL)
    node = cluster.followers()[0]
    checked = ["check", db, "--dir", cluster.folder]
    with cluster.writing(db, cluster.leader(), statement="INSERT INTO t VALUES (:who || :k)") as _:
        for _ in range(3):
            done = cluster.command(*checked)
            assert done.stdout.count("sound") == 3, done.stdout
    cluster.settle(db)
    with node.client(db) as client:
        client.run("PRAGMA wal_checkpoint(TRUNCATE)")
    flip(slot(node, db) / "database")
    done = cluster.command(*checked, check=False)
    assert done.returncode == 70, done
    lines = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith(db)}
    assert "DAMAGED" in lines.pop(node.name), done.stdout
    assert all("sound" in line for line in lines.values()), done.stdout
    assert db in done.stderr
    flip(slot(node, db) / "database")
