"""Engines on a folder that looks like the mount of LiteFS, where only the primary may write."""

import sqlite3

import pytest
from litefs_fastapi.sqlalchemy import create_engine
from litefs_py import NotPrimaryError
from sqlalchemy import text


@pytest.fixture
def engine(litefs_mount):
    engine = create_engine(litefs_mount, "app.db")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t(a)"))
    yield engine
    engine.dispose()


INSERT, COUNT = text("INSERT INTO t VALUES (1)"), text("SELECT count(*) FROM t")


def test_a_replica_reads_without_the_lock_and_does_not_write(engine, litefs_mount):
    litefs_mount.marker.write_text("n2\n")
    other = sqlite3.connect(litefs_mount.file("app.db"), timeout=0, isolation_level=None)
    with engine.connect() as connection:
        assert connection.execute(COUNT).scalar() == 0
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
        with pytest.raises(NotPrimaryError) as caught:
            connection.execute(INSERT)
        assert caught.value.primary == "n2"
    other.close()


def test_it_follows_the_role(engine, litefs_mount):
    for _ in range(2):
        litefs_mount.marker.write_text("n2\n")
        with pytest.raises(NotPrimaryError), engine.begin() as connection:
            connection.execute(INSERT)
        litefs_mount.marker.unlink()
        with engine.begin() as connection:
            connection.execute(INSERT)
    with engine.connect() as connection:
        assert connection.execute(COUNT).scalar() == 2


def test_a_lock_that_is_asked_for_is_refused(engine, litefs_mount):
    litefs_mount.marker.write_text("n2\n")
    immediate = engine.execution_options(litefs_begin="IMMEDIATE")
    with pytest.raises(NotPrimaryError), immediate.connect() as connection:
        connection.execute(COUNT)


def test_it_can_be_switched_off(litefs_mount):
    engine = create_engine(litefs_mount, "app.db", query_only=False)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t(a)"))
    litefs_mount.marker.write_text("n2\n")
    with engine.begin() as connection:
        connection.execute(INSERT)
    engine.dispose()
