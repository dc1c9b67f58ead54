"""A switchover that cannot be: the same refusal on every node (412, and why), and the leader leads on."""

import pytest
from devcluster import wait_for

# sysexits(3).
UNAVAILABLE = 69


@pytest.fixture(params=["leader", "follower"])
def asked(request, cluster):
    """Who is asked; and another one, to which it is to be handed over."""
    leader, (follower, target) = cluster.leader(), cluster.followers()
    return (leader if request.param == "leader" else follower), target


def refused(cluster, node, to, *words):
    leader, term = cluster.leader(), cluster.leader().term()
    code, body = node.by_socket("/switchover?timeout=20s", "POST", {"to": to}, timeout=30)
    assert code == 412, (code, body)
    assert all(word in body["error"] for word in (to, *words)), body
    where = ("--dir", cluster.folder, "--node", node.name)
    done = cluster.command("switchover", *where, "--to", to, check=False)
    assert (done.returncode, done.stdout) == (UNAVAILABLE, ""), done
    assert to in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert cluster.leader() is leader and leader.term() == term


def test_to_nobody(cluster, asked):
    node, _ = asked
    refused(cluster, node, "n9", "no member")
    refused(cluster, node, cluster.leader().name, "leads already")


def test_to_a_dead_node(cluster, asked, db):
    node, target = asked
    cluster.kill(target)
    leader = cluster.leader()
    wait_for(lambda: not reachable(leader, target), 10, "the leader to notice")
    refused(cluster, node, target.name, "not reachable")
    node.sql(db, "CREATE TABLE t(x)")


def reachable(leader, target):
    members = leader.ask("/members")[1]
    return next(one["reachable"] for one in members if one["name"] == target.name)


def test_to_a_node_that_lags(cluster, asked, db):
    """It stands still while the others write on: connected, and behind."""
    node, target = asked
    cluster.pause(target)
    node.sql(db, "CREATE TABLE t(x)", *["INSERT INTO t VALUES (1)"] * 20)
    refused(cluster, node, target.name)
    node.sql(db, "INSERT INTO t VALUES (2)")
    cluster.resume(target)
    leader = cluster.leader()
    wait_for(lambda: reachable(leader, target), 20, "the leader to see it again")
    code, body = node.by_socket("/switchover?timeout=20s", "POST", {"to": target.name}, timeout=30)
    assert code == 200, body
    wait_for(target.is_primary, 10, "it to lead")
