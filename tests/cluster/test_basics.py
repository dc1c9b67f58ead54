"""What every application does: create, read, write, on any node, with stock SQLite."""

import re

import pytest
from devcluster import Client, SqlError, run, shell, wait_for


def test_what_one_node_writes_all_read(cluster, db):
    """one-history: after a barrier a reader elsewhere sees it (Rule 18)."""
    cluster.nodes[0].sql(db, "CREATE TABLE t(x)", "INSERT INTO t VALUES ('é'), (NULL), (x'00ff')")
    for node in cluster.nodes:
        node.barrier()
        assert node.sql(db, "SELECT x FROM t ORDER BY rowid") == [["é"], [None], ["00ff"]]


def test_every_node_writes(cluster, db):
    """Write anywhere; a node always sees its own writes, without a barrier."""
    cluster.create(db, "CREATE TABLE t(node)")
    for node in cluster.nodes * 3:
        with node.client(db) as client:
            before = client.one("SELECT count(*) FROM t WHERE node = ?", node.name)
            client.run("INSERT INTO t VALUES (?)", node.name)
            assert client.one("SELECT count(*) FROM t WHERE node = ?", node.name) == before + 1
    cluster.same(db)
    assert cluster.nodes[0].sql(db, "SELECT count(*) FROM t") == [[9]]


def test_the_shell_writes_too(cluster, db):
    for node in cluster.nodes:
        shell(node.db(db), "CREATE TABLE IF NOT EXISTS t(x); INSERT INTO t VALUES (1);")
    cluster.same(db)
    assert shell(cluster.nodes[0].db(db), "SELECT sum(x) FROM t").stdout == "3\n"


def test_a_new_database_becomes_wal_by_itself(cluster, db):
    """readers-go-on needs WAL mode: the daemon turns a database to it when nobody uses it."""
    cluster.create(db, "CREATE TABLE t(x)")
    for node in cluster.nodes:
        assert wait_for(
            lambda node=node: node.sql(db, "PRAGMA journal_mode") == [["wal"]], what="wal"
        )
        node.sql(db, "INSERT INTO t VALUES (1)")
    cluster.same(db)


def test_back_to_a_journal_is_refused(cluster, db):
    """`journal: wal`, the default: a change back is refused, and nothing breaks."""
    cluster.create(db, "PRAGMA journal_mode = wal", "CREATE TABLE t(x)")
    for node in cluster.nodes:
        try:
            assert node.sql(db, "PRAGMA journal_mode = delete") == [["wal"]]
        except SqlError:
            pass
        node.sql(db, "INSERT INTO t VALUES (1)")
    cluster.same(db)
    assert cluster.nodes[0].sql(db, "PRAGMA journal_mode") == [["wal"]]


def test_special_files(cluster, db):
    """`.primary`, `.lag` and `-pos` as LiteFS has them."""
    cluster.create(db, "CREATE TABLE t(x)")
    leader = cluster.leader()
    position = cluster.settle(db)
    for node in cluster.nodes:
        primary = run("cat", node.mount / ".primary", check=False)
        if node is leader:
            assert primary.returncode == 1, "the primary has no .primary"
        else:
            assert primary.stdout.strip() == leader.name
        assert re.fullmatch(r"\d+\n", run("cat", node.mount / ".lag").stdout)
        assert run("cat", node.db(f"{db}-pos")).stdout.strip() == position
    assert run("cat", leader.mount / ".lag").stdout == "0\n"


def test_a_position_names_the_bytes(cluster, db):
    """one-history: the position's checksum, computed anew from what a reader sees on each node."""
    cluster.create(db, "CREATE TABLE t(x)", "INSERT INTO t VALUES (hex(randomblob(3000)))")
    for node in cluster.nodes:
        node.sql(
            db, "INSERT INTO t VALUES (hex(randomblob(9000)))", "DELETE FROM t WHERE rowid = 2"
        )
        checksum = int(cluster.settle(db).split("/")[1], 16)
        for reader in cluster.nodes:
            with reader.client(db) as client:
                client.start(checksum=True)
                assert client.finish() == checksum, f"{reader} after a write on {node}"


def test_txids_go_up_by_one(cluster, db):
    """Rule 5: TXIDs never go back; one transaction, one TXID; a ROLLBACK has none (Rule 8)."""
    cluster.create(db, "PRAGMA journal_mode = wal", "CREATE TABLE t(x)")
    before = int(cluster.settle(db).split("/")[0], 16)
    for node in cluster.nodes:
        node.sql(db, "INSERT INTO t VALUES (1)")
        node.sql(db, "BEGIN", "INSERT INTO t VALUES (2)", "ROLLBACK")
        node.sql(db, "BEGIN IMMEDIATE", "COMMIT")
    assert int(cluster.settle(db).split("/")[0], 16) == before + 3


def test_many_databases(cluster):
    names = [f"many{number}.db" for number in range(12)]
    for number, name in enumerate(names):
        cluster.nodes[number % 3].sql(name, "CREATE TABLE t(x)", f"INSERT INTO t VALUES ({number})")
    for name in names:
        cluster.settle(name)
    for node in cluster.nodes:
        listed = set(run("ls", node.mount).stdout.split())
        assert set(names) <= listed
        for number, name in enumerate(names):
            assert node.sql(name, "SELECT x FROM t") == [[number]]


@pytest.mark.parametrize("size", [512, 1024, 8192, 65536])
def test_page_sizes(cluster, db, size):
    cluster.nodes[0].sql(db, f"PRAGMA page_size = {size}", "CREATE TABLE t(x)")
    for node in cluster.nodes:
        node.sql(
            db, "INSERT INTO t VALUES (zeroblob(100000))", "UPDATE t SET x = randomblob(70000)"
        )
    cluster.same(db)
    assert cluster.nodes[2].sql(db, "PRAGMA page_size") == [[size]]


def large(cluster, db, megabytes, node):
    cluster.create(db, "CREATE TABLE t(x)")
    series = (
        f"WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {megabytes})"
    )
    node.sql(db, f"{series} INSERT INTO t SELECT randomblob(1000000) FROM s", deadline=300)
    cluster.settle(db, 60)
    for other in cluster.nodes:
        rows = other.sql(db, "SELECT count(*), sum(length(x)) FROM t", deadline=60)
        assert rows == [[megabytes, megabytes * 1_000_000]]
    cluster.nodes[0].sql(db, "DELETE FROM t", deadline=60)


def test_a_large_transaction(cluster, db):
    """60 MB travel beside the log (Rule 19)."""
    large(cluster, db, 60, cluster.followers()[0])


@pytest.mark.slow
def test_a_very_large_transaction(cluster, db):
    large(cluster, db, 500, cluster.leader())


@pytest.mark.slow
def test_the_memory_of_a_large_database(make_cluster, measured):
    """500 MB at a time into a database of 2 GB: in 200 MB of memory, and 8 bytes a page."""
    cluster, db = make_cluster(), "large.db"
    node = cluster.leader()
    cluster.create(db, "PRAGMA journal_mode = wal", "CREATE TABLE t(x)")
    for _ in range(4):
        fill = "INSERT INTO t SELECT randomblob(500000) FROM generate_series"
        rows = "WITH RECURSIVE generate_series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM generate_series LIMIT 1000)"
        node.sql(db, f"{rows} {fill}", timeout=60, deadline=300)
    cluster.settle(db, 300)
    pages = node.databases()[db]["pages"]
    assert pages * 4096 > 2e9
    for each in cluster.nodes:
        measured(f"{each}: {each.most_resident() / 1e6:.0f} MB for {pages * 4096 / 1e9:.1f} GB")
        assert each.most_resident() < 200e6 + 8 * pages


def test_vacuum(cluster, db):
    """The database shrinks on all nodes; pages above the commit size are dropped."""
    cluster.create(db, "CREATE TABLE t(x)")
    for node in (cluster.leader(), cluster.followers()[0]):
        node.sql(db, "INSERT INTO t SELECT randomblob(100000) FROM pragma_function_list LIMIT 30")
        node.sql(db, "DELETE FROM t WHERE rowid % 3")
        before = node.sql(db, "PRAGMA page_count")[0][0]
        node.sql(db, "VACUUM")
        assert node.sql(db, "PRAGMA page_count")[0][0] < before
        cluster.same(db)


def test_vacuum_into_and_backup_out(cluster, db, tmp_path):
    cluster.create(
        db, "CREATE TABLE t(x)", "INSERT INTO t SELECT randomblob(5000) FROM pragma_function_list"
    )
    for node in cluster.nodes:
        rows = node.sql(db, "SELECT count(*) FROM t")
        copy, backup = tmp_path / f"{node}-copy", tmp_path / f"{node}-backup"
        node.sql(db, f"VACUUM INTO '{copy}'")
        shell(node.db(db), f".backup {backup}")
        for path in (copy, backup):
            with Client(path) as client:
                assert client.run("PRAGMA integrity_check") == [["ok"]]
                assert client.run("SELECT count(*) FROM t") == rows


def test_vacuum_into_the_mount(cluster, db, tmp_path):
    """A whole database comes in as one transaction."""
    with Client(tmp_path / "plain.db") as client:
        client.run("CREATE TABLE t(x)")
        client.run("INSERT INTO t SELECT randomblob(5000) FROM pragma_function_list LIMIT 50")
        client.run(f"VACUUM INTO '{cluster.followers()[0].db(db)}'")
    cluster.same(db)
    assert cluster.nodes[0].sql(db, "SELECT count(*) FROM t") == [[50]]


def test_restore_over_a_database(cluster, db, tmp_path):
    """`.restore`: another content in one transaction, on every node."""
    cluster.create(db, "CREATE TABLE t(x)", "INSERT INTO t VALUES ('old')")
    plain = tmp_path / "plain.db"
    shell(plain, "CREATE TABLE t(x); INSERT INTO t VALUES ('new'), (zeroblob(100000));")
    shell(cluster.nodes[1].db(db), f".restore {plain}")
    cluster.same(db)
    assert cluster.nodes[2].sql(db, "SELECT x FROM t WHERE rowid = 1") == [["new"]]


def test_savepoints_and_spills(cluster, db):
    """A cache of five pages: frames are written long before COMMIT, rolled back in parts, and the
    headers rewritten (invisible-until-committed)."""
    cluster.create(db, "PRAGMA journal_mode = wal", "CREATE TABLE t(x)")
    fill = "INSERT INTO t SELECT randomblob(3000) FROM pragma_function_list LIMIT 60"
    for count, node in enumerate((cluster.leader(), cluster.followers()[0]), 1):
        with node.client(db) as client:
            client.run("PRAGMA cache_size = 5")
            client.run("BEGIN IMMEDIATE")
            client.run(fill)
            client.run("SAVEPOINT a")
            client.run(fill)
            client.run("UPDATE t SET x = zeroblob(2000)")
            client.run("ROLLBACK TO a")
            client.run("INSERT INTO t VALUES ('end')")
            for other in cluster.nodes:
                assert other.sql(db, "SELECT count(*) FROM t") == [[61 * (count - 1)]]
            client.run("COMMIT")
            client.run("BEGIN IMMEDIATE")
            client.run(fill)
            client.run("ROLLBACK")
            assert client.run("PRAGMA integrity_check") == [["ok"]]
        cluster.same(db)
        assert (
            cluster.nodes[0].sql(db, "SELECT count(*), count(DISTINCT x) FROM t")[0][0]
            == 61 * count
        )


def test_a_deleted_database_is_gone_and_its_name_free(cluster, db):
    """An incarnation ends with the deletion; the next has nothing of it (Rule 17)."""
    cluster.create(db, "CREATE TABLE old(x)")
    run("rm", cluster.nodes[1].db(db))
    for node in cluster.nodes:
        wait_for(lambda node=node: db not in node.databases(), what=f"the deletion on {node}")
        gone = lambda node=node: run("ls", node.db(db), check=False).returncode != 0  # noqa: E731
        wait_for(gone, 2, f"{node}'s kernel to forget it")
    cluster.nodes[2].sql(db, "CREATE TABLE new(x)")
    cluster.same(db)
    assert cluster.nodes[0].sql(db, "SELECT name FROM sqlite_schema") == [["new"]]


def test_a_checkpoint_by_the_application(cluster, db):
    """SQLite's own checkpoints write to the database file and are no transaction."""
    cluster.create(db, "PRAGMA journal_mode = wal", "CREATE TABLE t(x)")
    for node in cluster.nodes:
        node.sql(db, "INSERT INTO t SELECT randomblob(3000) FROM pragma_function_list LIMIT 100")
        position = cluster.settle(db)
        for kind in ("passive", "full", "restart", "truncate"):
            node.sql(db, f"PRAGMA wal_checkpoint({kind})")
        assert cluster.settle(db) == position
    cluster.same(db)


def test_attached_databases(cluster, db):
    """WAL mode: atomic per database, as SQLite documents."""
    other = f"other-{db}"
    for name in (db, other):
        cluster.create(name, "PRAGMA journal_mode = wal", "CREATE TABLE t(x)")
    for node in cluster.nodes:
        node.sql(
            db, f"ATTACH '{node.db(other)}' AS b", "BEGIN",
            "INSERT INTO main.t VALUES (1)", "INSERT INTO b.t VALUES (1)", "COMMIT",
        )  # fmt: skip
    for name in (db, other):
        cluster.same(name)
        assert cluster.nodes[0].sql(name, "SELECT count(*) FROM t") == [[3]]


def test_a_name_is_free_as_soon_as_it_is_deleted(cluster):
    """Whoever deletes a database makes it anew without waiting, also without a busy timeout."""
    node = cluster.followers()[0]
    path = node.mount / "again.db"
    for _ in range(30):
        node.sql(path.name, "CREATE TABLE t(a)", "INSERT INTO t VALUES (1)", timeout=0)
        path.unlink()
