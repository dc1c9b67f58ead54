"""What some programs do otherwise than SQLite by default: read through a memory map, lock by open file
descriptions."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from devcluster import LOG_SCHEMA, Writer, wait_for

SHIM = Path(__file__).with_name("ofd_locks.c")
ROWS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler")
    made = tmp_path_factory.mktemp("ofd") / "ofd_locks.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", made, SHIM, "-ldl"]
    subprocess.run(command, check=True)
    return made


def test_reads_through_a_memory_map(cluster, db):
    """converges: `PRAGMA mmap_size`, on every node, beside writes, checkpoints and a VACUUM."""
    cluster.create(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, v, x)")
    clients = [node.client(db) for node in cluster.nodes]
    try:
        for client in clients:
            assert client.one("PRAGMA mmap_size = 268435456") == 268435456
        clients[0].run(f"INSERT INTO t {ROWS} SELECT i, 0, randomblob(2000) FROM n")
        changes = [
            "UPDATE t SET v = v + 1, x = randomblob(2000) WHERE id % 7 = 3",
            "PRAGMA wal_checkpoint(PASSIVE)",
            "DELETE FROM t WHERE id > 250",
            "VACUUM",
            f"INSERT OR IGNORE INTO t {ROWS} SELECT i, 1, randomblob(3000) FROM n",
            "PRAGMA wal_checkpoint(PASSIVE)",
        ]
        for number, change in enumerate(changes * 3):
            writer = clients[number % len(clients)]
            writer.run(change)
            cluster.settle(db)
            shown = {
                str(each.run("SELECT count(*), sum(v), sum(length(x)) FROM t")) for each in clients
            }
            assert len(shown) == 1, (change, shown)
            assert {each.one("PRAGMA quick_check") for each in clients} == {"ok"}
    finally:
        for client in clients:
            client.kill()


def test_locks_of_open_file_descriptions(cluster, db, library, monkeypatch, tmp_path):
    """no-lost-ack, for programs that lock so, on every node, beside one that locks as SQLite does."""
    cluster.create(db, *LOG_SCHEMA)
    plain = Writer(cluster.leader().db(db), "plain", tmp_path / "plain")
    monkeypatch.setenv("LD_PRELOAD", str(library))
    writers = [Writer(node.db(db), node.name, tmp_path / node.name) for node in cluster.nodes]
    monkeypatch.delenv("LD_PRELOAD")
    everybody = [plain, *writers]
    wait_for(lambda: all(len(one.acknowledged()) > 30 for one in everybody), 60, "rows of all")
    for writer in everybody:
        writer.stop()
        assert not writer.failures()
    cluster.check_log(db, everybody)


def test_a_lock_of_an_open_file_ends_with_its_program(cluster, db, library, monkeypatch):
    """bounded-answer: the kernel unlocks nothing then; it closes."""
    cluster.create(db, *LOG_SCHEMA)
    node = cluster.followers()[0]
    monkeypatch.setenv("LD_PRELOAD", str(library))
    client = node.client(db)
    monkeypatch.delenv("LD_PRELOAD")
    client.run("BEGIN IMMEDIATE")
    client.run("INSERT INTO log VALUES ('half', 1)")
    client.process.send_signal(signal.SIGKILL)
    client.process.wait(10)
    for other in cluster.nodes:
        other.sql(db, f"INSERT INTO log VALUES ('{other.name}', 1)")
    cluster.same(db)
    assert node.sql(db, "SELECT count(*) FROM log WHERE who = 'half'") == [[0]]
