"""A disk that changes a page: found by a reading, named, and mended from the other nodes."""

import json
from pathlib import Path

import pytest
from devcluster import SqlError, wait_for


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


FILL = (
    "CREATE TABLE t(x)",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<400) "
    "INSERT INTO t SELECT randomblob(1000) FROM n",
)


@pytest.fixture(scope="module")
def unread(make_cluster):
    """No scheduled reading; any journal."""
    return make_cluster(settings={"journal: wal": "journal: any"})


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_reader_that_comes_upon_a_rotten_page_never_sees_it(unread, journal):
    """Nobody looks for it: the read itself finds it, and waits until it is mended."""
    db = f"{journal}.db"
    leader, victim = unread.leader(), unread.followers()[0]
    leader.sql(db, f"PRAGMA journal_mode = {journal}", *FILL)
    victim.barrier()
    if journal == "wal":
        wait_for(lambda: checkpointed(victim, db), 20, "a checkpoint")
    before = leader.content(db)
    flip(victim, db, 20)
    forget()
    assert victim.content(db) == before
    log = victim.log()
    assert "a page that is read is not what was written" in log and "pgno=20" in log
    wait_for(lambda: "a rotten page was mended" in victim.log(), 10, "a page mended")
    sound = json.loads(unread.command("check", db, "--dir", unread.folder, "--json").stdout)
    assert {copy["state"] for copy in sound[0]["copies"].values()} == {"sound"}


def test_a_rotten_page_that_is_written_does_not_spread(unread):
    """one-history: who changes another row of that page reads it first, and so gets the sound one."""
    db, others = "written.db", "SELECT hex(x) FROM t WHERE rowid % 3 <> 0"
    leader, victim = unread.leader(), unread.followers()[0]
    leader.sql(db, *FILL)
    victim.barrier()
    wait_for(lambda: checkpointed(victim, db), 20, "a checkpoint")
    before = leader.sql(db, others)
    flip(victim, db, 20)
    forget()
    # Rows of all pages.
    victim.sql(db, "UPDATE t SET x = zeroblob(1000) WHERE rowid % 3 = 0")
    leader.barrier()
    assert leader.sql(db, others) == before
    assert victim.sql(db, others) == before
    assert victim.content(db) == leader.content(db)


def test_without_another_node_a_reader_gets_an_error_and_no_rotten_page(make_cluster):
    """bounded-answer: wrong bytes are worse than none."""
    db = "alone.db"
    (node,) = make_cluster(nodes=1).nodes
    node.sql(db, *FILL)
    wait_for(lambda: checkpointed(node, db), 20, "a checkpoint")
    flip(node, db, 20)
    forget()
    # SQLite's word for a file system that says EIO: SQLITE_IOERR_CORRUPTFS.
    with pytest.raises(SqlError, match="malformed|I/O error"):
        node.sql(db, "SELECT sum(length(x)) FROM t WHERE hex(x) != ''")
    assert "there is no other node" in node.log()


def forget():
    """What the kernel remembers is sound."""
    Path("/proc/sys/vm/drop_caches").write_text("1")


def checkpointed(node, name):
    with node.client(name) as client:
        busy, log, done = client.run("PRAGMA wal_checkpoint(PASSIVE)")[0]
    return busy == 0 and log == done
