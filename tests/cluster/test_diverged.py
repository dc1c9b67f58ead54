"""`litefs-py diverged`: what a node has set aside (nothing-discarded) is listed, comes out as a file, and
goes by its name only."""

import json
import shutil
import signal
import sqlite3

import pytest
from devcluster import wait_for
from test_damage import asides, flip, slot
from test_import import CANNOT_CREATE, FILL, NO_INPUT, UNAVAILABLE, count, refused


def diverged(cluster, node, *arguments, check=True):
    where = ("--dir", cluster.folder, "--node", node.name)
    return cluster.command("diverged", *arguments, *where, check=check)


def listed(cluster, node, name):
    """What is listed of a database."""
    found = json.loads(diverged(cluster, node, "list", "--json").stdout)
    return [one for one in found if name in {part["name"] for part in one["databases"]}]


def set_aside(cluster, db, damage):
    """A node whose copy was damaged while it was down, and is set aside."""
    cluster.create(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, b)", FILL, FILL)
    node = cluster.followers()[0]
    # A clean stop brings everything into the database file.
    cluster.kill(node, signal.SIGTERM)
    damage(slot(node, db) / "database")
    cluster.restart(node)
    cluster.same(db)
    return node


def overwrite_last_row(path):
    """Other bytes, and a sound database all the same."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE t SET b = 'mine' WHERE id = 120")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def test_a_sound_one_is_listed_exported_and_dropped(cluster, db, tmp_path):
    node = set_aside(cluster, db, overwrite_last_row)
    (one,) = listed(cluster, node, db)
    assert one["bytes"] > 120 * 3000 and one["set_aside"] > 1_700_000_000
    assert "diverged" in one["why"] and one["databases"][0]["position"]
    line = next(x for x in diverged(cluster, node, "list").stdout.splitlines() if one["id"] in x)
    assert db in line and "ago" in line
    assert not listed(cluster, cluster.leader(), db), "it is this node's alone"

    path = tmp_path / "out.db"
    told = json.loads(diverged(cluster, node, "export", one["id"], path, "--json").stdout)
    assert told["sound"]
    assert count(path) == 120
    assert sqlite3.connect(path).execute("SELECT b FROM t WHERE id = 120").fetchone() == ("mine",)
    done = diverged(cluster, node, "export", one["id"], path, check=False)
    refused(done, CANNOT_CREATE, "--force")

    for wrong in (one["id"][:-1], "..", "", "%2e%2e", f"../{one['id']}"):
        done = diverged(cluster, node, "drop", wrong, check=False)
        assert done.returncode != 0, wrong
    refused(
        diverged(cluster, node, "drop", "no-such-thing", check=False), NO_INPUT, "no-such-thing"
    )
    assert listed(cluster, node, db) == [one]
    assert one["id"] in diverged(cluster, node, "drop", one["id"]).stdout
    assert not listed(cluster, node, db) and not asides(node, db)
    cluster.same(db)


def test_one_that_is_rotten_comes_out_as_it_is(cluster, db, tmp_path):
    damaged = {}

    def damage(path):
        flip(path)
        damaged["bytes"] = path.read_bytes()

    node = set_aside(cluster, db, damage)
    (one,) = listed(cluster, node, db)
    path = tmp_path / "out.db"
    done = diverged(cluster, node, "export", one["id"], path)
    assert path.read_bytes() == damaged["bytes"]
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    if connection.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
        assert "NOT SOUND" in done.stdout
    connection.close()
    diverged(cluster, node, "drop", one["id"])


def test_one_without_a_header_comes_out_as_raw_bytes(cluster, db, tmp_path):
    def damage(path):
        with open(path, "r+b") as file:
            file.write(b"rotten" * 100)

    node = set_aside(cluster, db, damage)
    (one,) = listed(cluster, node, db)
    path = tmp_path / "out.db"
    told = json.loads(diverged(cluster, node, "export", one["id"], path, "--json").stdout)
    assert not told["sound"] and told["why"]
    assert path.read_bytes() == (asides(node, db)[0] / "database").read_bytes()
    diverged(cluster, node, "drop", one["id"])


def test_a_whole_data_folder(cluster, db, tmp_path):
    """Another node's: each of its databases comes out by its name, and it goes as one."""
    names = (db, f"other-{db}")
    for name in names:
        cluster.create(name, "CREATE TABLE t(id INTEGER PRIMARY KEY, b)", FILL)
    node = cluster.followers()[0]
    cluster.kill(node, signal.SIGTERM)
    aside = node.folder / "data" / "aside" / "old-7-1764300000"
    for number, name in enumerate(names):
        shutil.copytree(slot(node, name), aside / "dbs" / str(number))
    (aside / "identity").write_text('{"format":1,"cluster":"old","node":7}')
    (aside / "raft").mkdir()
    (aside / "raft" / "state").write_bytes(bytes(1000))
    cluster.restart(node)
    (one,) = listed(cluster, node, db)
    assert one["id"] == aside.name and one["set_aside"] == 1764300000
    assert {part["name"] for part in one["databases"]} == set(names)
    assert '"node":7' in one["why"]
    path = tmp_path / "out.db"
    refused(
        diverged(cluster, node, "export", one["id"], path, check=False), UNAVAILABLE, "--database"
    )
    for name in names:
        diverged(cluster, node, "export", one["id"], path, "--database", name, "--force")
        assert count(path) == 60
    assert not list(tmp_path.glob("*.part"))
    diverged(cluster, node, "drop", one["id"])
    assert not aside.exists() and not listed(cluster, node, db)


@pytest.mark.parametrize("name", [".dropped-app.db-1-1764300000"])
def test_a_drop_that_a_crash_cut_short(cluster, name):
    node = cluster.followers()[0]
    half = node.folder / "data" / "aside" / name
    half.mkdir()
    (half / "database").write_bytes(b"half")
    assert name not in diverged(cluster, node, "list").stdout
    cluster.kill(node)
    cluster.restart(node)
    wait_for(lambda: not half.exists(), what="its end")
