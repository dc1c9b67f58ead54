"""Engines on a folder that looks like the mount of LiteFS, where only the primary may write."""

import sqlite3

import pytest
from litefs_fastapi.sqlalchemy import create_engine
from litefs_py import NotPrimaryError
from litefs_py.adapters.mount import Mount
from sqlalchemy import text


class PlayedMount(Mount):
    """Nothing is mounted there, and no node answers."""

    def __init__(self, folder):
        super().__init__(folder, f"unix:{folder}/none.sock")
        (folder / ".lag").write_text("+000000000\n")
        self.marker = folder / ".primary"

    def require(self):
        return self.device()


@pytest.fixture
def mount(tmp_path):
    return PlayedMount(tmp_path)


@pytest.fixture
def engine(mount):
    engine = create_engine(mount, "app.db")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t(a)"))
    yield engine
    engine.dispose()


INSERT, COUNT = text("INSERT INTO t VALUES (1)"), text("SELECT count(*) FROM t")


def test_a_replica_reads_without_the_lock_and_does_not_write(engine, mount):
    mount.marker.write_text("n2\n")
    other = sqlite3.connect(mount.file("app.db"), timeout=0, isolation_level=None)
    with engine.connect() as connection:
        assert connection.execute(COUNT).scalar() == 0
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
        with pytest.raises(NotPrimaryError) as caught:
            connection.execute(INSERT)
        assert caught.value.primary == "n2"
    other.close()


def test_it_follows_the_role(engine, mount):
    for _ in range(2):
        mount.marker.write_text("n2\n")
        with pytest.raises(NotPrimaryError), engine.begin() as connection:
            connection.execute(INSERT)
        mount.marker.unlink()
        with engine.begin() as connection:
            connection.execute(INSERT)
    with engine.connect() as connection:
        assert connection.execute(COUNT).scalar() == 2


def test_a_lock_that_is_asked_for_is_refused(engine, mount):
    mount.marker.write_text("n2\n")
    immediate = engine.execution_options(litefs_begin="IMMEDIATE")
    with pytest.raises(NotPrimaryError), immediate.connect() as connection:
        connection.execute(COUNT)


def test_it_can_be_switched_off(mount):
    engine = create_engine(mount, "app.db", query_only=False)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t(a)"))
    mount.marker.write_text("n2\n")
    with engine.begin() as connection:
        connection.execute(INSERT)
    engine.dispose()
