"""`connect` on plain files, as with `enabled=False`."""

import gc
import os
import sqlite3
import threading

import pytest
from litefs_py import NodeDown, connect
from litefs_py.adapters.connection import into_wal
from litefs_py.usecases import writes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.db"


@pytest.fixture
def connection(path):
    with connect(path, enabled=False) as connection:
        connection.execute("CREATE TABLE t(a INTEGER PRIMARY KEY)")
        yield connection
    connection.close()


def one(connection, statement):
    return connection.execute(statement).fetchone()[0]


def test_settings(connection):
    assert one(connection, "PRAGMA journal_mode") == "wal"
    assert one(connection, "PRAGMA foreign_keys") == 1
    assert one(connection, "PRAGMA synchronous") == 1
    assert one(connection, "PRAGMA busy_timeout") == 5000


def test_a_write_begins_immediately(connection, path):
    connection.execute("INSERT INTO t VALUES (1)")
    assert connection.in_transaction
    with connect(path, enabled=False, busy_timeout=0) as other:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.begin()
        assert one(other, "SELECT count(*) FROM t") == 0
        connection.commit()
        assert one(other, "SELECT count(*) FROM t") == 1
    other.close()


def test_as_pep_249_has_it(connection):
    cursor = connection.cursor()
    assert cursor.executemany("INSERT INTO t VALUES (?)", [(1,), (2,), (3,)]).rowcount == 3
    assert cursor.execute("SELECT a FROM t ORDER BY a").fetchmany(2) == [(1,), (2,)]
    assert cursor.description[0][0] == "a"
    assert cursor.fetchone() == (3,)
    assert cursor.fetchone() is None
    assert [row for row in connection.execute("SELECT a FROM t")] == [(1,), (2,), (3,)]
    connection.rollback()
    assert one(connection, "SELECT count(*) FROM t") == 0
    connection.row_factory = sqlite3.Row
    assert connection.execute("SELECT 1 AS x").fetchone()["x"] == 1


def test_the_block_commits_or_rolls_back(connection, path):
    with connection:
        connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(RuntimeError), connection:
        connection.execute("INSERT INTO t VALUES (2)")
        raise RuntimeError
    assert one(connection, "SELECT count(*) FROM t") == 1


def test_run_in_transaction(connection, path):
    blocker = connect(path, enabled=False, check_same_thread=False)
    blocker.begin()
    timer = threading.Timer(0.2, blocker.rollback)
    timer.start()
    quick = connect(path, enabled=False, busy_timeout=0)
    quick.run_in_transaction(lambda c: c.execute("INSERT INTO t VALUES (1)"))
    assert one(connection, "SELECT count(*) FROM t") == 1
    timer.join()
    quick.close()
    blocker.close()


def test_closed(connection):
    connection.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_a_child_opens_its_own(connection):
    """To use, or to close, the parent's could damage the database."""
    connection.execute("INSERT INTO t VALUES (1)")
    before = connection._raw
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        fresh = connection.raw is not before and not connection.in_transaction
        seen = one(connection, "SELECT count(*) FROM t")
        os.write(writing, f"{fresh} {seen}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reading, 99) == b"True 0"
    os.close(reading)
    os.close(writing)
    connection.commit()
    assert one(connection, "SELECT count(*) FROM t") == 1


def test_no_descriptor_stays(path):
    def descriptors():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for _ in range(20):
        connection = connect(path, enabled=False)
        connection.execute("SELECT 1").fetchall()
        connection.close()
    assert descriptors() == before


def test_who_watches_is_told_what_was_written(connection):
    with writes.watching() as names:
        connection.execute("SELECT * FROM t").fetchall()
        assert not names
        thread_saw = []
        connection.execute("INSERT INTO t VALUES (1)")
        thread_saw.append(set(names))
    assert thread_saw == [{"app.db"}]
    connection.execute("INSERT INTO t VALUES (2)")
    assert names == {"app.db"}
    with writes.watching() as names:
        connection.execute("INSERT INTO t VALUES (3) RETURNING a").fetchone()
        assert names == {"app.db"}


def test_nothing_is_made_beneath_a_mount_that_is_not_there(tmp_path):
    with pytest.raises(NodeDown, match="nothing is mounted"):
        connect(tmp_path / "app.db")
    assert not (tmp_path / "app.db").exists()


@pytest.mark.parametrize("mode", ["", "IMMEDIATE; DROP TABLE t", "SOON"])
def test_no_other_modes(connection, mode):
    with pytest.raises(ValueError, match="BEGIN"):
        connection.begin(mode)


def test_a_change_to_wal_beside_another_connection(path):
    """SQLite does not wait there as it was told: who is refused tries again."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE t(a)")
    other.execute("BEGIN IMMEDIATE")
    refused = []

    def execute(statement):
        try:
            return raw.execute(statement)
        except sqlite3.OperationalError as error:
            refused.append(str(error))
            if len(refused) == 2:
                other.execute("COMMIT")
            raise

    raw = sqlite3.connect(path, timeout=0, isolation_level=None)
    into_wal(execute)
    assert refused == ["database is locked"] * 2
    assert one(raw, "PRAGMA journal_mode") == "wal"
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        into_wal(lambda _: raw.execute("BEGIN IMMEDIATE"), 0)
    raw.close()
    other.close()
