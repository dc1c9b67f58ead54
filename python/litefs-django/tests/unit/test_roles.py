"""The engine in a folder that looks like the mount of LiteFS, where only the primary may write."""

import sqlite3

import pytest


@pytest.fixture
def mount(litefs, litefs_mount, monkeypatch):
    conf = litefs(MOUNT=litefs_mount.path)
    monkeypatch.setattr(conf, "mount", lambda: litefs_mount)
    return litefs_mount


@pytest.fixture
def database(mount):
    from django.db import connections

    settings = {**connections.databases["default"], "NAME": "app.db", "OPTIONS": {}}
    settings["TIME_ZONE"] = None
    wrapper = type(connections["default"])(settings, "default")
    with wrapper.cursor() as cursor:
        cursor.execute("CREATE TABLE t(a)")
    yield wrapper
    wrapper.close()


def insert(database):
    with database.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES (1)")


def mark(database):
    with database.cursor() as cursor:
        cursor.execute("PRAGMA user_version = 5")


def count(database):
    with database.cursor() as cursor:
        return cursor.execute("SELECT count(*) FROM t").fetchone()[0]


def in_transaction(database, work):
    database.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
    try:
        return work(database)
    finally:
        database.rollback()
        database.set_autocommit(True)


def test_a_replica_reads_without_the_lock_and_does_not_write(database, mount):
    from litefs_django.errors import NotPrimaryError

    mount.marker.write_text("n2\n")
    other = sqlite3.connect(mount.file("app.db"), timeout=0, isolation_level=None)

    def read(database):
        assert count(database) == 0
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")

    in_transaction(database, read)
    for write in (insert, mark, lambda database: in_transaction(database, insert)):
        with pytest.raises(NotPrimaryError) as caught:
            write(database)
        assert caught.value.primary == "n2"
    other.close()


def test_it_follows_the_role(database, mount):
    from django.db import OperationalError

    for _ in range(2):
        mount.marker.write_text("n2\n")
        with pytest.raises(OperationalError, match="only the primary, n2"):
            insert(database)
        mount.marker.unlink()
        opened_on_a_replica = database.connection
        insert(database)
        assert database.connection is not opened_on_a_replica
    assert count(database) == 2


def test_migrations_need_the_primary(mount, monkeypatch):
    from django.core.management import CommandError, call_command
    from litefs_django import conf

    monkeypatch.setattr(conf, "database_names", lambda: {"default": "app.db"})
    mount.marker.write_text("n2\n")
    with pytest.raises(CommandError, match="on the primary, n2"):
        call_command("migrate", verbosity=0)
