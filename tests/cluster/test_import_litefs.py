"""`litefs-py import` of a LiteFS's data folder: all its databases, each held against its last LTX file.

The folders are made here, as LiteFS lays them out; tests/fixtures/litefs-data is one that a real LiteFS
left behind."""

import json
import sqlite3
from pathlib import Path

import pytest
from client import ltx_checksum
from devcluster import ROOT
from test_import import CANNOT_CREATE, DATA, FILL, NO_INPUT, refused, spooled

USAGE = 64

REAL = ROOT / "tests" / "fixtures" / "litefs-data"


def ltx(path, last, checksum, pages):
    """The ends of an LTX file of version 1; its pages are not looked at."""
    head = b"LTX1" + (1).to_bytes(4, "big") + (4096).to_bytes(4, "big") + pages.to_bytes(4, "big")
    head += last.to_bytes(8, "big") * 2
    path.mkdir(parents=True, exist_ok=True)
    file = path / f"{last:016x}-{last:016x}.ltx"
    file.write_bytes(head.ljust(100, b"\0") + b"pages" + checksum.to_bytes(8, "big") + bytes(8))
    return file


def lay_out(folder, name, wal=True, rows=1):
    """A database of LiteFS's: `database`, `wal` with what was not checkpointed, two LTX files."""
    place = folder / "dbs" / name
    place.mkdir(parents=True)
    made = folder / "made.db"
    connection = sqlite3.connect(made, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode={'wal' if wal else 'delete'}")
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, b)")
    for _ in range(rows):
        connection.execute(FILL)
    if wal:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("INSERT INTO t VALUES (5000, 'in the wal')")
    image = connection.serialize()
    for suffix, file in (("", "database"), ("-wal", "wal")):
        part = Path(f"{made}{suffix}")
        if part.exists():
            (place / file).write_bytes(part.read_bytes())
    connection.close()
    for part in folder.glob("made.db*"):
        part.unlink()
    ltx(place / "ltx", 3, 1 << 63, len(image) // 4096)
    ltx(place / "ltx", 12, ltx_checksum(image), len(image) // 4096)
    return place


def bring(cluster, folder, *more, check=True):
    where = ("--dir", cluster.folder, "--node", cluster.leader().name)
    return cluster.command("import", folder, *more, *where, check=check)


def test_all_its_databases(cluster, db, tmp_path):
    names = [f"{kind}-{db}" for kind in ("wal", "delete")]
    for name in names:
        lay_out(tmp_path, name, wal=name.startswith("wal"))
    # One that was begun and never committed to, and one that was deleted.
    (tmp_path / "dbs" / f"empty-{db}" / "ltx").mkdir(parents=True)
    ltx(tmp_path / "dbs" / f"deleted-{db}" / "ltx", 5, 1 << 63, 0)
    told = json.loads(bring(cluster, tmp_path, "--json").stdout)
    assert [one["database"] for one in told] == sorted(names)
    for name in names:
        cluster.same(name)
        rows = 61 if name.startswith("wal") else 60
        assert cluster.followers()[0].sql(name, "SELECT count(*) FROM t") == [[rows]]
    # Again: each is there already, and each is said.
    done = bring(cluster, tmp_path, check=False)
    assert done.returncode == CANNOT_CREATE
    assert all(name in done.stderr for name in names)


def test_one_of_them(cluster, db, tmp_path):
    for name in (db, f"other-{db}"):
        lay_out(tmp_path, name)
    bring(cluster, tmp_path, "--database", db)
    cluster.same(db)
    assert cluster.leader().position(f"other-{db}") is None
    refused(bring(cluster, tmp_path, "--database", "no.db", check=False), NO_INPUT, "no such")
    refused(bring(cluster, tmp_path, "x.db", check=False), USAGE, "--database")
    refused(bring(cluster, tmp_path / "nowhere", check=False), USAGE, "FILE NAME")
    (tmp_path / "dbs" / "file").mkdir()
    refused(
        bring(cluster, tmp_path / "dbs" / "file", check=False), DATA, "no data folder of LiteFS"
    )


@pytest.mark.parametrize("damage", ["database", "wal gone", "no ltx", "journal", "name"])
def test_what_is_not_as_litefs_says(cluster, db, tmp_path, damage):
    """Nothing is imported, not even the one that is as it should be."""
    lay_out(tmp_path, f"a-{db}")
    place = lay_out(tmp_path, db, wal=damage != "journal")
    word, code = "start LiteFS over it", DATA
    match damage:
        case "database":
            content = bytearray((place / "database").read_bytes())
            content[len(content) // 2] ^= 1
            (place / "database").write_bytes(content)
        case "wal gone":
            (place / "wal").unlink()
        case "no ltx":
            for file in (place / "ltx").iterdir():
                file.unlink()
            word = "no LTX file"
        case "journal":
            (place / "journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(600))
            word, code = "not ended", 75
        case "name":
            (file,) = (file for file in (place / "ltx").iterdir() if "c.ltx" in file.name)
            file.rename(file.with_name(f"{13:016x}-{13:016x}.ltx"))
            word = "other transactions"
    refused(bring(cluster, tmp_path, check=False), code, word)
    for name in (db, f"a-{db}"):
        assert cluster.leader().position(name) is None
    assert not spooled(cluster.leader())


@pytest.mark.skipif(not REAL.exists(), reason="no data folder of a real LiteFS was recorded")
def test_a_real_one(cluster):
    """Left by LiteFS 0.5.14 after a SIGKILL: one database with a rollback journal, one in WAL mode whose
    transactions are in its WAL."""
    told = json.loads(bring(cluster, REAL, "--json").stdout)
    assert [one["database"] for one in told] == ["litefs-delete.db", "litefs-wal.db"]
    for one in told:
        cluster.same(one["database"])
        assert cluster.leader().sql(one["database"], "SELECT count(*) FROM t") == [[40]]
