"""The engine without a node: plain SQLite with the same settings."""

import os
import sqlite3

import pytest
from django.db import connection, transaction


def one(sql):
    with connection.cursor() as cursor:
        return cursor.execute(sql).fetchone()[0]


def test_settings():
    assert one("PRAGMA journal_mode") == "wal"
    assert one("PRAGMA foreign_keys") == 1
    assert one("PRAGMA synchronous") == 1
    assert one("PRAGMA busy_timeout") == 5000
    assert connection.litefs_name is None
    assert connection.connection.isolation_level is None


def test_the_file_is_in_the_folder():
    path = one("SELECT file FROM pragma_database_list")
    assert path == os.path.join(os.environ["PROJECT_DIR"], ".litefs", "app.db")


def test_transactions_begin_immediately():
    path = one("SELECT file FROM pragma_database_list")
    other = sqlite3.connect(path, timeout=0, isolation_level=None)
    with transaction.atomic(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    from litefs_django.db.transaction import deferred

    with deferred(), transaction.atomic():
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    other.close()


def test_a_child_opens_its_own():
    one("SELECT 1")
    before = connection.connection
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        one("SELECT 1")
        os.write(writing, b"own" if connection.connection is not before else b"inherited")
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reading, 99) == b"own"
    os.close(reading)
    os.close(writing)
    assert connection.connection is before


def test_errors_have_both_names():
    import litefs_py
    from django.db import OperationalError
    from litefs_django import errors

    for kind in (litefs_py.NodeDown, litefs_py.QuorumLost, litefs_py.NotPrimaryError):
        found = errors.of_django(kind("why"))
        assert isinstance(found, OperationalError)
        assert isinstance(found, kind)
        assert str(found) == "why"
    found = errors.of_django(litefs_py.CommitOutcomeUnknown("why", ("1-2-3",)))
    assert isinstance(found, OperationalError)
    assert found.transactions == ("1-2-3",)


def test_nothing_is_made_beneath_a_mount_that_is_not_there(litefs, tmp_path):
    from litefs_django import errors

    litefs(MOUNT=str(tmp_path))
    connection.close()
    with pytest.raises(errors.NodeDown, match="nothing is mounted"):
        one("SELECT 1")
    assert not list(tmp_path.iterdir())


def test_the_debug_toolbar_sees_the_queries():
    """It puts cursors of its own around the engine's."""
    from debug_toolbar.panels.sql.tracking import wrap_cursor

    wrap_cursor(connection)
    try:
        assert one("SELECT 1") == 1
    finally:
        connection.close()
        for name in ("_djdt_cursor", "_djdt_chunked_cursor", "cursor", "chunked_cursor"):
            connection.__dict__.pop(name, None)
