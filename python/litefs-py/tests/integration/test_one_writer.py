"""`connect` with LiteFS as the engine, a real one: only the primary writes."""

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest
from litefs_py import NotPrimaryError
from litefs_py.cluster import wait_for
from litefs_py.testing import why_not

# Python 3.10 tells no code of SQLite's: there a write that was refused may be any `disk I/O error`.
CODES = sys.version_info >= (3, 11)


def one(connection, statement):
    return connection.execute(statement).fetchone()[0]


@pytest.fixture
def cluster(litefs_primary_cluster):
    return litefs_primary_cluster


@pytest.fixture
def table(cluster, litefs_database):
    with closing(cluster.leader().connect(litefs_database)) as connection, connection:
        connection.execute("CREATE TABLE t(a)")
    cluster.settle(litefs_database)
    return litefs_database


def switch_over(cluster):
    """Returns the node that was primary, and the one that is."""
    before = cluster.leader()
    attached = [node for node in cluster.nodes if node is not before and node.mount.is_replica()]
    before.client.switchover(attached[0].name)
    wait_for(lambda: attached[0].check("primary") and attached[0].mount.is_primary(), 15, "roles")
    wait_for(before.mount.is_replica, 15, "the old primary follows")
    return before, attached[0]


def test_roles(cluster, litefs_cluster):
    leader = cluster.leader()
    for node in cluster.nodes:
        assert node.mount.has_one_writer()
        wait_for(lambda n=node: n.mount.is_primary() is (n is leader), 10, "roles")
        assert node.mount.is_replica() is (node is not leader)
        assert node.mount.primary() == (None if node is leader else leader.name)
    for node in litefs_cluster.nodes:
        assert not node.mount.has_one_writer()
        assert node.mount.primary() is None


def test_a_replica_reads_and_refuses_at_the_statement(cluster, table):
    leader, replica = cluster.leader(), cluster.followers()[0]
    with closing(leader.connect(table)) as writer, closing(replica.connect(table)) as connection:
        for write in (
            lambda: connection.execute("INSERT INTO t VALUES (1)"),
            connection.begin,
            lambda: connection.execute("CREATE TABLE u(a)"),
            lambda: connection.run_in_transaction(lambda c: c.execute("DELETE FROM t")),
        ):
            with pytest.raises(NotPrimaryError) as caught:
                write()
            assert caught.value.primary == leader.name
            assert caught.value.address
            connection.rollback()
        with writer:
            writer.execute("INSERT INTO t VALUES (1)")
        replica.mount.wait(writer.token(), 10)
        assert one(connection, "SELECT count(*) FROM t") == 1
        with writer:
            writer.execute("INSERT INTO t VALUES (2)")
        replica.mount.barrier(10)
        assert one(connection, "SELECT count(*) FROM t") == 2


@pytest.mark.skipif(not CODES, reason="Python 3.10 tells no code of SQLite's")
def test_without_query_only_wal_refuses_at_commit(cluster, table):
    replica = cluster.followers()[0]
    with closing(replica.connect(table, query_only=False)) as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(NotPrimaryError, match="disk I/O error"):
            connection.commit()
        connection.rollback()
        assert one(connection, "SELECT count(*) FROM t") == 0


@pytest.mark.parametrize("query_only", [True, False])
def test_a_rollback_journal(cluster, litefs_database, query_only):
    leader, replica = cluster.leader(), cluster.followers()[0]
    with closing(sqlite3.connect(leader.mount.file(litefs_database))) as plain:
        plain.execute("PRAGMA journal_mode = delete")
        plain.execute("CREATE TABLE t(a)")
    cluster.settle(litefs_database)
    with closing(replica.connect(litefs_database, query_only=query_only)) as connection:
        assert one(connection, "PRAGMA journal_mode") == "delete"
        with pytest.raises(NotPrimaryError) as caught, connection:
            connection.execute("INSERT INTO t VALUES (1)")
        assert caught.value.primary == leader.name


def test_a_database_that_is_not_there(cluster, litefs_database):
    replica = cluster.followers()[0]
    with pytest.raises(NotPrimaryError):
        replica.connect(litefs_database)
    assert litefs_database not in [path.name for path in replica.mount.path.iterdir()]


def test_a_connection_follows_the_primary(cluster, table):
    connections = {node.name: node.connect(table) for node in cluster.nodes}
    for written in range(1, 4):
        before, after = switch_over(cluster)
        connections[after.name].run_in_transaction(lambda c: c.execute("INSERT INTO t VALUES (1)"))
        with pytest.raises(NotPrimaryError) as caught:
            connections[before.name].execute("INSERT INTO t VALUES (1)")
        assert caught.value.primary == after.name
        connections[before.name].rollback()
        before.mount.wait(connections[after.name].token(), 10)
        assert one(connections[before.name], "SELECT count(*) FROM t") == written
    for connection in connections.values():
        connection.close()


def test_writers_on_every_node_through_switchovers(cluster, table):
    """What was acknowledged is there once, what was refused is not there at all."""
    acknowledged, refused, strange = set(), set(), []
    end = threading.Event()

    def write(node, number):
        connection = node.connect(table, busy_timeout=1, check_same_thread=False)
        row = number
        while not end.wait(0.002):
            row += 10
            try:
                with connection:
                    connection.execute("INSERT INTO t VALUES (?)", [row])
                acknowledged.add(row)
            except NotPrimaryError:
                refused.add(row)
            except sqlite3.Error as error:
                strange.append((row, repr(error)))
        connection.close()

    threads = [
        threading.Thread(target=write, args=(node, number))
        for number, node in enumerate(cluster.nodes)
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            wanted = len(acknowledged) + 20
            wait_for(lambda wanted=wanted: len(acknowledged) > wanted, 20, "writes")
            switch_over(cluster)
    finally:
        end.set()
        for thread in threads:
            thread.join()
    cluster.settle(table)
    with closing(cluster.leader().connect(table)) as connection:
        rows = [row for (row,) in connection.execute("SELECT a FROM t")]
    assert len(rows) == len(set(rows))
    assert acknowledged <= set(rows), strange
    assert not refused & set(rows)
    assert refused


def test_a_node_for_development(tmp_path):
    """`dev` with this engine; it ends with the process that started it."""
    if reason := why_not("litefs"):
        pytest.skip(reason)
    program = (
        "from litefs_py.adapters.config.app import AppSettings\n"
        f"mount = AppSettings(dev=True, dev_engine='litefs', folder={str(tmp_path)!r}).open_mount()\n"
        "from litefs_py import connect\n"
        "with connect('app.db', mount=mount) as connection:\n"
        "    connection.execute('CREATE TABLE t(a)')\n"
        "print(mount.has_one_writer(), mount.path)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=90
    )
    assert said.returncode == 0, said.stderr
    one_writer, path = said.stdout.split()
    assert one_writer == "True"
    wait_for(lambda: not os.path.ismount(path), 30, "the end of its mount")
