"""Rollback journals, allowed by `journal: any`: DELETE, TRUNCATE and PERSIST."""

import pytest
from devcluster import SqlError, shell, wait_for

MODES = ["delete", "truncate", "persist"]
FILL = "INSERT INTO t SELECT randomblob(3000) FROM pragma_function_list LIMIT 60"


@pytest.fixture(scope="module")
def settings():
    return {"journal: wal": "journal: any"}


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


def client_on(node, db, mode):
    """The mode is the connection's, except for WAL."""
    client = node.client(db)
    assert client.one(f"PRAGMA journal_mode = {mode}") == mode
    return client


def test_every_node_writes(cluster, db, mode):
    """one-history, with the journal's end as commit point."""
    cluster.create(db, f"PRAGMA journal_mode = {mode}", "CREATE TABLE t(x)")
    for node in cluster.nodes * 2:
        with client_on(node, db, mode) as client:
            client.run("INSERT INTO t VALUES (?)", node.name)
            client.run("UPDATE t SET x = x || '.'")
        cluster.settle(db)
    cluster.same(db)
    assert cluster.nodes[0].sql(db, "SELECT count(*) FROM t") == [[6]]
    assert cluster.nodes[2].sql(db, "PRAGMA journal_mode") != [["wal"]]


def test_rollback_changes_nothing(cluster, db, mode):
    """Rule 8: spilled pages reach no one, and a journal finalised after a ROLLBACK is no
    transaction."""
    cluster.create(db, f"PRAGMA journal_mode = {mode}", "CREATE TABLE t(x)", FILL)
    for node in (cluster.leader(), cluster.followers()[0]):
        position = cluster.settle(db)
        with client_on(node, db, mode) as client:
            client.run("PRAGMA cache_size = 5")
            client.run("BEGIN IMMEDIATE")
            client.run("UPDATE t SET x = randomblob(3000)")
            client.run(FILL)
            client.run("ROLLBACK")
            assert client.one("SELECT count(*) FROM t") == 60
        assert cluster.settle(db) == position
        cluster.same(db)


def test_savepoints_and_spills(cluster, db, mode):
    cluster.create(db, f"PRAGMA journal_mode = {mode}", "CREATE TABLE t(x)")
    for count, node in enumerate((cluster.leader(), cluster.followers()[0]), 1):
        with client_on(node, db, mode) as client:
            client.run("PRAGMA cache_size = 5")
            client.run("BEGIN IMMEDIATE")
            client.run(FILL)
            client.run("SAVEPOINT a")
            client.run(FILL)
            client.run("UPDATE t SET x = zeroblob(2000)")
            client.run("ROLLBACK TO a")
            client.run("COMMIT")
        cluster.same(db)
        assert cluster.nodes[0].sql(db, "SELECT count(*) FROM t") == [[60 * count]]


def test_vacuum(cluster, db, mode):
    """VACUUM cuts the database after the commit point."""
    cluster.create(
        db,
        f"PRAGMA journal_mode = {mode}",
        "CREATE TABLE t(x)",
        FILL,
        "DELETE FROM t WHERE rowid % 3",
    )
    node = cluster.followers()[0]
    before = node.sql(db, "PRAGMA page_count")[0][0]
    with client_on(node, db, mode) as client:
        client.run("VACUUM")
    cluster.same(db)
    assert cluster.leader().sql(db, "PRAGMA page_count")[0][0] < before


def test_hot_journal(cluster, db, mode):
    """Schedule "hot journals": pages spilled, the application killed, a transaction elsewhere, and
    then a reader that finds a journal. No uncommitted byte may show, no committed one go."""
    cluster.create(db, f"PRAGMA journal_mode = {mode}", "CREATE TABLE t(x)", FILL)
    for node, other in (cluster.followers(), [cluster.leader(), cluster.followers()[0]]):
        rows = node.sql(db, "SELECT count(*) FROM t")[0][0]
        client = client_on(node, db, mode)
        client.run("PRAGMA cache_size = 5")
        client.run("BEGIN IMMEDIATE")
        client.run("UPDATE t SET x = 'torn'")
        client.run(FILL)
        client.kill()
        other.sql(db, "INSERT INTO t VALUES ('after')")
        cluster.settle(db)
        for reader in cluster.nodes:
            with reader.client(db) as client:
                assert client.one("SELECT count(*) FROM t WHERE x = 'torn'") == 0
                assert client.one("SELECT count(*) FROM t") == rows + 1
        cluster.same(db)


def test_an_open_reader_sees_the_change(cluster, db, mode):
    """Pages changed in place leave the kernel's and SQLite's caches (Rule 16)."""
    cluster.create(
        db, f"PRAGMA journal_mode = {mode}", "CREATE TABLE t(x)", "INSERT INTO t VALUES (0)"
    )
    writer, reader = cluster.leader(), cluster.followers()[0]
    with reader.client(db) as client, client_on(writer, db, mode) as source:
        for value in range(20):
            source.run("UPDATE t SET x = ?", value)
            reader.barrier()
            assert client.one("SELECT x FROM t") == value


def test_from_journal_to_wal_and_not_back(cluster, db):
    """`journal: any` lets an application choose WAL; the way back is refused in this version, and
    the database goes on in WAL mode."""
    cluster.create(db, "PRAGMA journal_mode = delete", "CREATE TABLE t(x)")
    with cluster.nodes[1].client(db) as client:
        assert wait_for(lambda: try_mode(client, "wal") == "wal", what="mode wal")
        client.run("INSERT INTO t VALUES (1)")
    cluster.same(db)
    with cluster.nodes[2].client(db) as client:
        assert try_mode(client, "delete") in (None, "wal")
        client.run("INSERT INTO t VALUES (2)")
    cluster.same(db)
    assert cluster.nodes[0].sql(db, "SELECT count(*) FROM t") == [[2]]


def test_a_wal_database_goes_on_under_a_new_name(cluster, db, tmp_path):
    """The way that the documentation offers instead: a copy outside, restored."""
    node = cluster.followers()[0]
    cluster.create(db, "PRAGMA journal_mode = wal", "CREATE TABLE t(x)", FILL)
    copy, new = tmp_path / "copy.db", f"new-{db}"
    shell(node.db(db), f"VACUUM INTO '{copy}'")
    shell(node.db(new), f".restore {copy}")
    cluster.same(new)
    for reader in cluster.nodes:
        assert reader.sql(new, "PRAGMA journal_mode") == [["delete"]]
        assert reader.sql(new, "SELECT count(*) FROM t") == [[60]]
    cluster.nodes[2].sql(new, "INSERT INTO t VALUES (1)")
    cluster.same(new)


def try_mode(client, mode):
    """The change needs the database alone: others may hold it for a moment."""
    try:
        return client.one(f"PRAGMA journal_mode = {mode}")
    except SqlError as error:
        assert error.busy
        return None


def test_two_databases_in_one_transaction_are_refused(cluster, db):
    """A super-journal's removal would commit before ours is asked: refused, and neither changes."""
    other = f"other-{db}"
    for name in (db, other):
        cluster.create(name, "PRAGMA journal_mode = delete", "CREATE TABLE t(x)")
    for node in (cluster.leader(), cluster.followers()[0]):
        done = shell(
            node.db(db),
            f"ATTACH '{node.db(other)}' AS b; BEGIN; INSERT INTO main.t VALUES (1);"
            "INSERT INTO b.t VALUES (1); COMMIT;",
            check=False,
        )
        assert done.returncode != 0
        assert "super-journal" in node.log()
        for name in (db, other):
            cluster.same(name)
            assert cluster.nodes[0].sql(name, "SELECT count(*) FROM t") == [[0]]
            node.sql(name, "INSERT INTO t VALUES (1)", "DELETE FROM t")


def test_a_super_journal_outside_the_mount_is_refused(cluster, db, tmp_path):
    """The main database elsewhere, ours attached: its deletion would commit. Ours is not changed
    without the cluster; the statement fails."""
    cluster.create(db, "PRAGMA journal_mode = delete", "CREATE TABLE t(x)")
    plain = tmp_path / "plain.db"
    shell(plain, "CREATE TABLE t(x)")
    node = cluster.followers()[0]
    done = shell(
        plain,
        f"ATTACH '{node.db(db)}' AS b; BEGIN; INSERT INTO main.t VALUES (1);"
        "INSERT INTO b.t VALUES (1); COMMIT;",
        check=False,
    )
    assert done.returncode != 0
    cluster.same(db)
    assert cluster.nodes[0].sql(db, "SELECT count(*) FROM t") == [[0]]
    assert shell(plain, "SELECT count(*) FROM t").stdout == "0\n"


@pytest.mark.parametrize("unsafe", ["memory", "off"])
def test_no_journal_no_write(cluster, db, unsafe):
    """MEMORY and OFF have no commit point: refused, on every node, and nothing is changed."""
    cluster.create(db, "PRAGMA journal_mode = delete", "CREATE TABLE t(x)")
    for node in (cluster.leader(), cluster.followers()[0]):
        with node.client(db) as client:
            client.run(f"PRAGMA journal_mode = {unsafe}")
            with pytest.raises(SqlError):
                client.run("INSERT INTO t VALUES (1)")
        assert "refused" in node.log()
    cluster.same(db)
    assert cluster.nodes[0].sql(db, "SELECT count(*) FROM t") == [[0]]


def test_a_page_size_changes_wholly_or_not_at_all(cluster, db):
    """VACUUM with another page size: as one transaction of the whole database, or refused."""
    cluster.create(db, "PRAGMA journal_mode = delete", "CREATE TABLE t(x)", FILL)
    with cluster.followers()[0].client(db) as client:
        client.run("PRAGMA page_size = 8192")
        try:
            client.run("VACUUM")
        except SqlError:
            pass
    cluster.same(db)
    sizes = {node.sql(db, "PRAGMA page_size")[0][0] for node in cluster.nodes}
    assert len(sizes) == 1
    assert cluster.nodes[0].sql(db, "SELECT count(*) FROM t") == [[60]]


def test_a_held_unlink_without_quorum(cluster, db):
    """It blocks every open in the folder: so it is answered after 2 s (unlink_timeout), with the
    outcome open, and the folder is free again."""
    cluster.create(db, "PRAGMA journal_mode = delete", "CREATE TABLE t(x)")
    leader, others = cluster.leader(), cluster.followers()
    with client_on(leader, db, "delete") as client:
        client.run("BEGIN IMMEDIATE")
        client.run("INSERT INTO t VALUES (1)")
        for node in others:
            cluster.kill(node)
        with pytest.raises(SqlError) as failed:
            client.run("COMMIT")
        assert failed.value.seconds < 6
        # invisible-until-committed: whose outcome is open is not read, by the writer itself neither.
        assert leader.sql(db, "SELECT count(*) FROM t", timeout=3) == [[0]]
        assert client.run("SELECT count(*) FROM t") == [[0]]
        with leader.client("other.db") as other:
            with pytest.raises(SqlError):
                other.run("SELECT * FROM nothing")
    cluster.heal()
    cluster.same(db)
    assert cluster.nodes[0].sql(db, "SELECT count(*) FROM t")[0][0] in (0, 1)
    cluster.nodes[1].sql(db, "INSERT INTO t VALUES (2)")
    cluster.same(db)
