"""`litefs-py import` with `engine: litefs`: LiteFS itself brings the database in, on the primary, whoever is
asked."""

import json
import sqlite3

import pytest
from devcluster import wait_for

DATA, CANNOT_CREATE, TRY_AGAIN = 65, 73, 75


def make(path, rows=500, mode="delete", size=4096):
    """An SQLite file that nobody has open."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {size}")
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, b)")
    connection.executemany("INSERT INTO t(b) VALUES (?)", [(f"{i:0900}",) for i in range(rows)])
    connection.close()
    return path


def bring_in(cluster, node, path, name, check=True):
    where = ("--dir", cluster.folder, "--node", node.name)
    return cluster.command("import", path, name, *where, "--json", check=check)


@pytest.mark.parametrize("who", ["primary", "replica"])
def test_a_file_becomes_a_database_on_all_nodes(cluster, tmp_path, who):
    """In WAL mode, as `journal: wal` says; it is readable where it was asked for when the command ends."""
    node = cluster.leader() if who == "primary" else cluster.followers()[0]
    name = f"{who}.db"
    told = json.loads(bring_in(cluster, node, make(tmp_path / "x.db"), name).stdout)
    assert (told["database"], told["journal"], told["page_size"]) == (name, "wal", 4096)
    assert node.sql(name, "SELECT count(*), max(length(b)) FROM t") == [[500, 900]]
    assert node.position(name) == told["position"]
    cluster.same(name)
    cluster.write(name, "INSERT INTO t(b) VALUES ('more')")
    cluster.same(name)
    assert cluster.followers()[0].sql(name, "PRAGMA journal_mode") == [["wal"]]
    assert not list((node.folder / "data/imports").iterdir())


def test_large_pages_and_a_wal_beside(cluster, tmp_path):
    """What is in the file's WAL comes with it; pages of 64 KiB have a size of their own in the header."""
    path = make(tmp_path / "wal.db", 2000, "wal", 65536)
    held = sqlite3.connect(path, isolation_level=None)
    held.execute("INSERT INTO t(b) VALUES ('in the wal')")
    held.execute("PRAGMA wal_autocheckpoint = 0")
    told = json.loads(bring_in(cluster, cluster.followers()[0], path, "large.db").stdout)
    held.close()
    assert told["page_size"] == 65536
    cluster.same("large.db")
    assert cluster.leader().sql("large.db", "SELECT count(*) FROM t") == [[2001]]


def test_what_is_refused_changes_nothing(cluster, db, tmp_path):
    """A name that is taken, no database, a damaged one: the codes of the other engine."""
    node = cluster.followers()[0]
    before = cluster.together(db)
    done = bring_in(cluster, node, make(tmp_path / "x.db"), db, check=False)
    assert done.returncode == CANNOT_CREATE, done.stderr
    assert "exists already" in done.stderr
    assert cluster.together(db) == before
    noise = tmp_path / "noise"
    noise.write_bytes(b"no database at all" * 500)
    done = bring_in(cluster, node, noise, "noise.db", check=False)
    assert done.returncode == DATA, done.stderr
    damaged = make(tmp_path / "damaged.db", 5000)
    with open(damaged, "r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096)
    done = bring_in(cluster, node, damaged, "damaged.db", check=False)
    assert done.returncode == DATA, done.stderr
    for one in cluster.nodes:
        assert not {"noise.db", "damaged.db"} & set(one.databases())
        assert not (one.mount / "damaged.db").exists()


def test_a_name_is_free_again_once_its_database_was_removed(cluster, tmp_path):
    node = cluster.leader()
    bring_in(cluster, node, make(tmp_path / "x.db", 10), "again.db")
    cluster.together("again.db")
    for suffix in ("-wal", "-shm", ""):
        (node.mount / f"again.db{suffix}").unlink(missing_ok=True)
    wait_for(
        lambda: all(not (one.mount / "again.db").exists() for one in cluster.nodes), 20, "removal"
    )
    path = make(tmp_path / "y.db", 20)

    def brought_in():
        # The primary's mount shows it a moment before its LiteFS says so.
        done = bring_in(cluster, node, path, "again.db", check=False)
        assert done.returncode == 0 or "exists already" in done.stderr, done.stderr
        return done.returncode == 0

    wait_for(brought_in, 10, "the name to be free")
    cluster.same("again.db")
    assert cluster.followers()[0].sql("again.db", "SELECT count(*) FROM t") == [[20]]


def test_without_a_primary_it_is_said_and_goes_on_later(make_cluster, tmp_path):
    cluster = make_cluster()
    node = cluster.followers()[0]
    others = [other for other in cluster.nodes if other is not node]
    for other in others:
        cluster.kill(other)
    path = make(tmp_path / "x.db")
    done = bring_in(cluster, node, path, "late.db", check=False)
    assert done.returncode == TRY_AGAIN, done.stderr
    assert "was not imported" in done.stderr
    cluster.heal()
    bring_in(cluster, node, path, "late.db")
    cluster.same("late.db")
