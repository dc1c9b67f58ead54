"""A folder that looks like the mount of LiteFS, where only the primary may write."""

import sqlite3

import pytest
from litefs_py import NotPrimaryError, connect
from litefs_py.adapters.mount import Mount

LAG, NEVER = "+000000000\n", "+2147483647\n"


class PlayedMount(Mount):
    """Nothing is mounted there, and no node answers."""

    def __init__(self, folder):
        super().__init__(folder, f"unix:{folder}/none.sock")

    def require(self):
        return self.device()

    def follow(self, primary):
        (self.path / ".primary").write_text(f"{primary}\n")

    def lead(self):
        (self.path / ".primary").unlink(missing_ok=True)


@pytest.fixture
def mount(tmp_path):
    (tmp_path / ".lag").write_text(LAG)
    return PlayedMount(tmp_path)


@pytest.fixture
def connection(mount):
    connection = connect("app.db", mount=mount)
    with connection:
        connection.execute("CREATE TABLE t(a)")
    yield connection
    connection.close()


def test_who_it_is(mount):
    assert mount.has_one_writer()
    assert mount.is_primary()
    assert (mount.is_replica(), mount.primary()) == (False, None)
    mount.follow("n2")
    assert not mount.is_primary()
    assert (mount.is_replica(), mount.primary()) == (True, "n2")


def test_cut_off_it_is_neither(mount):
    (mount.path / ".lag").write_text(NEVER)
    assert not mount.is_primary()
    assert not mount.is_replica()


@pytest.mark.parametrize("lag", ["0\n", "1234\n", None])
def test_the_other_engine_has_no_such_roles(tmp_path, lag):
    """There, too, is a file with the leader's name."""
    if lag:
        (tmp_path / ".lag").write_text(lag)
    mount = PlayedMount(tmp_path)
    mount.follow("n2")
    assert not mount.has_one_writer()
    assert not mount.is_replica()
    assert not mount.is_primary()
    assert mount.primary() is None


@pytest.mark.parametrize(
    "write",
    [
        lambda c: c.execute("INSERT INTO t VALUES (1)"),
        lambda c: c.begin(),
        lambda c: c.execute("CREATE TABLE u(a)"),
        lambda c: c.execute("PRAGMA user_version = 5"),
        lambda c: (c.begin("DEFERRED"), c.execute("INSERT INTO t VALUES (1)")),
        lambda c: c.executemany("INSERT INTO t VALUES (?)", [(1,)]),
        lambda c: c.run_in_transaction(lambda c: c.execute("INSERT INTO t VALUES (1)")),
    ],
)
def test_a_write_on_a_replica_fails_at_the_statement(connection, mount, write):
    mount.follow("n2")
    with pytest.raises(NotPrimaryError) as caught:
        write(connection)
    assert caught.value.primary == "n2"
    connection.rollback()
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_a_connection_follows_the_role(connection, mount):
    mount.follow("n2")
    with pytest.raises(NotPrimaryError):
        connection.execute("INSERT INTO t VALUES (1)")
    connection.row_factory = sqlite3.Row
    mount.lead()
    with connection:
        connection.execute("INSERT INTO t VALUES (1)")
    assert connection.execute("SELECT a FROM t").fetchone()["a"] == 1
    mount.follow("n3")
    with pytest.raises(NotPrimaryError):
        connection.begin()


def test_one_that_is_opened_on_a_replica(connection, mount):
    mount.follow("n2")
    other = connect("app.db", mount=mount)
    with pytest.raises(NotPrimaryError):
        other.execute("INSERT INTO t VALUES (1)")
    mount.lead()
    with other:
        other.execute("INSERT INTO t VALUES (1)")
    other.close()


def test_a_rollback_journal_stays_one_on_a_replica(mount):
    """To turn it to WAL is a write."""
    sqlite3.connect(mount.file("old.db")).execute("CREATE TABLE t(a)").connection.close()
    mount.follow("n2")
    connection = connect("old.db", mount=mount)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()


def test_a_database_that_is_not_there(mount):
    mount.follow("n2")
    with pytest.raises(NotPrimaryError, match=r"new\.db is not there"):
        connect("new.db", mount=mount)
    assert not mount.file("new.db").exists()


def test_reading_does_not_look_at_the_role(connection, mount, monkeypatch):
    looked = []
    monkeypatch.setattr(mount, "is_replica", lambda: looked.append(1) or False)
    connection.execute("SELECT 1").fetchall()
    assert not looked
    connection.begin()
    connection.execute("INSERT INTO t VALUES (1)")
    connection.commit()
    assert len(looked) == 1


def test_it_can_be_switched_off(mount, connection):
    other = connect("app.db", mount=mount, query_only=False)
    mount.follow("n2")
    with other:
        other.execute("INSERT INTO t VALUES (1)")
    other.close()
