"""`connect` on real mounts, through everything that happens to a node."""

import multiprocessing
import sqlite3
import threading
import time

import pytest
from litefs_py import CommitOutcomeUnknown, NodeDown, QuorumLost
from litefs_py.cluster import Cluster, wait_for
from litefs_py.testing import why_not


def one(connection, statement):
    return connection.execute(statement).fetchone()[0]


def isolate(cluster, alone):
    """The leader last, or this one would lead for a moment."""
    for node in sorted(cluster.nodes, key=lambda node: node.check("primary")):
        if node is not alone:
            cluster.kill(node)


@pytest.fixture
def table(litefs_cluster, litefs_database):
    with litefs_cluster.leader().connect(litefs_database) as connection:
        connection.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, who TEXT)")
    connection.close()
    litefs_cluster.settle(litefs_database)
    return litefs_database


def test_every_node_writes_and_all_read(litefs_cluster, table):
    connections = [node.connect(table) for node in litefs_cluster.nodes]
    for number, connection in enumerate(connections):
        with connection:
            connection.execute("INSERT INTO t VALUES (?, 'x')", [number])
        token = connection.token()
        for node, other in zip(litefs_cluster.nodes, connections, strict=True):
            node.mount.wait(token, 5)
            assert one(other, "SELECT count(*) FROM t") == number + 1
    assert {one(c, "PRAGMA journal_mode") for c in connections} == {"wal"}
    for connection in connections:
        connection.close()


def test_it_is_opened_anew_after_a_restart(litefs_cluster, table):
    node = litefs_cluster.followers()[0]
    connection = node.connect(table, busy_timeout=1)
    assert one(connection, "SELECT count(*) FROM t") == 0
    litefs_cluster.kill(node)
    wait_for(lambda: node.mount.stale(connection._device), 5, "the kernel notices")
    with pytest.raises(NodeDown):
        connection.execute("SELECT count(*) FROM t")
    with pytest.raises(NodeDown):
        connection.execute("INSERT INTO t VALUES (1, 'x')")
    connection.rollback()
    litefs_cluster.restart(node)
    with connection:
        connection.execute("INSERT INTO t VALUES (1, 'x')")
    assert one(connection, "SELECT count(*) FROM t") == 1
    connection.close()


def test_a_transaction_ends_with_the_daemon(litefs_cluster, table):
    node = litefs_cluster.followers()[0]
    connection = node.connect(table, busy_timeout=1)
    connection.execute("INSERT INTO t VALUES (1, 'x')")
    litefs_cluster.kill(node)
    litefs_cluster.restart(node)
    with pytest.raises(sqlite3.OperationalError):
        connection.execute("INSERT INTO t VALUES (2, 'x')")
        connection.commit()
    connection.rollback()
    with connection:
        connection.execute("INSERT INTO t VALUES (3, 'x')")
    assert connection.execute("SELECT a FROM t").fetchall() == [(3,)]
    connection.close()


def test_without_a_majority_writers_are_told_and_readers_go_on(litefs_cluster, table):
    alone = litefs_cluster.followers()[0]
    connection = alone.connect(table, busy_timeout=0.5)
    isolate(litefs_cluster, alone)
    wait_for(lambda: not alone.client.node_status().can_write, 10, "the majority is missed")
    with pytest.raises(QuorumLost):
        connection.begin()
    assert one(connection, "SELECT count(*) FROM t") == 0
    began = time.monotonic()
    with pytest.raises(QuorumLost):
        connection.run_in_transaction(
            lambda c: c.execute("INSERT INTO t VALUES (1, 'x')"), timeout=1
        )
    assert time.monotonic() - began < 10
    litefs_cluster.heal()
    connection.run_in_transaction(lambda c: c.execute("INSERT INTO t VALUES (1, 'x')"))
    connection.close()


def test_a_busy_database_is_only_busy(litefs_cluster, table):
    one_node, other_node = litefs_cluster.nodes[:2]
    holder, waiter = one_node.connect(table), other_node.connect(table, busy_timeout=0.3)
    holder.begin()
    with pytest.raises(sqlite3.OperationalError, match="locked") as caught:
        waiter.begin()
    assert type(caught.value) is sqlite3.OperationalError
    holder.rollback()
    waiter.run_in_transaction(lambda c: c.execute("INSERT INTO t VALUES (1, 'x')"))
    holder.close()
    waiter.close()


def test_increments_through_failovers(litefs_cluster, table):
    """Each that returned is there once: nothing lost, nothing done twice."""
    with litefs_cluster.leader().connect(table) as connection:
        connection.execute("INSERT INTO t VALUES (1, '0')")
    connection.close()
    victim = litefs_cluster.leader()
    node = litefs_cluster.followers()[0]
    done, unknown, over = [0], [0], threading.Event()

    def count():
        connection = node.connect(table)
        while not over.is_set():
            try:
                connection.run_in_transaction(lambda c: c.execute("UPDATE t SET who = who + 1"))
                done[0] += 1
            except CommitOutcomeUnknown:
                unknown[0] += 1
        connection.close()

    thread = threading.Thread(target=count)
    thread.start()
    try:
        for number in (20, 40):
            wait_for(lambda n=number: done[0] >= n, 30, f"{number} increments")
            litefs_cluster.kill(victim)
            before = done[0]
            wait_for(lambda b=before: done[0] >= b + 10, 30, "increments after the failover")
            litefs_cluster.restart(victim)
            litefs_cluster.heal()
            victim = litefs_cluster.leader()
            if victim is node:
                break
    finally:
        over.set()
        thread.join()
    with node.connect(table) as connection:
        counted = int(one(connection, "SELECT who FROM t"))
    connection.close()
    assert done[0] <= counted <= done[0] + unknown[0]


def insert_in_child(mount, name, number):
    from litefs_py import connect

    connection = connect(mount.file(name), mount=mount)
    connection.run_in_transaction(
        lambda c: c.execute("INSERT INTO t VALUES (?, 'child')", [number])
    )
    connection.mount.client.barrier(5)
    connection.close()


def test_forks(litefs_cluster, table):
    """Children that inherit a connection and a client each use their own."""
    node = litefs_cluster.followers()[0]
    node.mount.client.barrier(5)
    connection = node.connect(table)
    connection.execute("INSERT INTO t VALUES (0, 'parent')")
    connection.commit()
    fork = multiprocessing.get_context("fork")
    children = [
        fork.Process(target=insert_in_child, args=(node.mount, table, number))
        for number in range(1, 5)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    node.mount.client.barrier(5)
    assert one(connection, "SELECT count(*) FROM t") == 5
    connection.close()


@pytest.fixture
def hasty(tmp_path):
    """A cluster whose commits do not wait for long."""
    if reason := why_not():
        pytest.skip(reason)
    with Cluster(tmp_path / "hasty", settings={"write": {"commit_timeout": "2s"}}) as cluster:
        yield cluster
        cluster.heal()


def test_an_outcome_that_is_open_is_said_to_be(hasty, litefs_database):
    leader = hasty.leader()
    connection = leader.connect(litefs_database)
    with connection:
        connection.execute("CREATE TABLE t(a)")
    hasty.settle(litefs_database)
    connection.execute("INSERT INTO t VALUES (1)")
    for node in hasty.followers():
        hasty.pause(node)
    with pytest.raises(CommitOutcomeUnknown) as caught:
        connection.commit()
    assert caught.value.transactions
    connection.rollback()
    hasty.heal()

    def settled():
        listed = leader.client.node_status().indeterminate
        return [e for e in listed if e.transaction == caught.value.transactions[0]][0].outcome

    outcome = wait_for(lambda: settled() if settled() != "open" else None, 30, "a verdict")
    leader.client.barrier(10)
    assert one(connection, "SELECT count(*) FROM t") == (1 if outcome == "committed" else 0)

    # Or the daemon is gone, and cannot tell.
    connection.execute("INSERT INTO t VALUES (2)")
    victims = hasty.followers()
    for node in victims:
        hasty.pause(node)
    threading.Timer(0.5, hasty.kill, [leader]).start()
    with pytest.raises(CommitOutcomeUnknown, match="daemon ended"):
        connection.commit()
    connection.rollback()
    connection.close()
