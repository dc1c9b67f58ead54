"""A disk that changes a page: found by a reading, named, and mended from the other nodes."""

import json

import pytest
from devcluster import wait_for


@pytest.fixture(scope="module")
def settings():
    return {"scrub_interval: 24h": "scrub_interval: 1s"}


def flip(node, name, page, page_size=4096):
    """As a rotten sector does: beneath the daemon, in the database's file."""
    folders = (node.folder / "data" / "dbs").iterdir()
    (folder,) = [path for path in folders if name.encode() in (path / "record").read_bytes()]
    file = folder / "database"
    with open(file, "r+b", buffering=0) as rotten:
        rotten.seek((page - 1) * page_size + 100)
        byte = rotten.read(1)
        rotten.seek(-1, 1)
        rotten.write(bytes([byte[0] ^ 0x40]))


def test_a_rotten_page_is_named_and_mended(cluster, db):
    """Nobody restarts anything; readers and writers go on."""
    leader = cluster.leader()
    victim = cluster.followers()[0]
    leader.sql(
        db,
        "CREATE TABLE t(x)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<400) "
        "INSERT INTO t SELECT randomblob(1000) FROM n",
    )
    victim.barrier()
    # Into the database's file: what lies in the WAL is SQLite's own to check.
    wait_for(lambda: checkpointed(victim, db), 20, "a checkpoint")
    before = leader.content(db)
    flip(victim, db, 20)
    wait_for(lambda: "a rotten page was mended" in victim.log(), 30, "a page mended")
    assert "pages=[20]" in victim.log()
    assert victim.content(db) == before
    sound = json.loads(cluster.command("check", db, "--dir", cluster.folder, "--json").stdout)
    assert {copy["state"] for copy in sound[0]["copies"].values()} == {"sound"}
    metrics = victim.ask("/metrics")[1]
    assert "rotten_pages_total 1" in metrics and "mended_pages_total 1" in metrics
    victim.sql(db, "INSERT INTO t VALUES ('after')")
    leader.barrier()
    assert leader.sql(db, "SELECT count(*) FROM t") == [[401]]


def checkpointed(node, name):
    with node.client(name) as client:
        busy, log, done = client.run("PRAGMA wal_checkpoint(PASSIVE)")[0]
    return busy == 0 and log == done
