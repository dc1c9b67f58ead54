"""Nodes come and go: by token, removed, demoted, promoted; with wrong tokens, and by two operators."""

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster_fixtures import PROGRAM
from devcluster import SqlError, Writer, wait_for
from machines import (
    CANNOT_CREATE,
    CONFIG,
    NO_INPUT,
    NO_PERMISSION,
    TRY_AGAIN,
    UNAVAILABLE,
    USAGE,
    Machine,
    taken_down,
    token,
)

# Some 200 KB a time.
FILL = "INSERT INTO t SELECT randomblob(3000) FROM pragma_function_list LIMIT 60"


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """Makes machines, and takes them down after the file's last test."""
    made = []

    def machine(name):
        made.append(Machine(tmp_path_factory.mktemp("machine"), name, PROGRAM))
        return made[-1]

    with taken_down(made):
        yield machine


@pytest.fixture(scope="module")
def three(machines):
    """A cluster of three, made by tokens, with a database."""
    first = machines("n1").init().start()
    first.sql("app.db", "CREATE TABLE t(x)", "INSERT INTO t VALUES (1)")
    others = []
    for name in ("n2", "n3"):
        node = machines(name)
        assert node.join(token(first), first).returncode == 0
        node.start()
        others.append(node)
        wait_for(lambda n=name: first.members().get(n) == "voter", 30, f"{name} to vote")
    return [first, *others]


def leader_of(nodes):
    return wait_for(
        lambda: [node for node in nodes if not node.killed and node.is_primary()], 20, "a primary"
    )[0]


def test_a_cluster_is_made_by_tokens_and_survives_its_first_node(three, tmp_path):
    """no-lost-ack: what was acknowledged before and after is on the nodes that are left."""
    first, second, third = three
    third.barrier()
    assert third.sql("app.db", "SELECT x FROM t") == [[1]]
    third.sql("app.db", "CREATE TABLE log(who TEXT, k INTEGER)")
    writer = Writer(second.db("app.db"), "w", tmp_path / "log")
    wait_for(lambda: len(writer.acknowledged()) > 20, 20, "rows")
    first.stop(signal.SIGKILL)
    killed = time.time()
    wait_for(lambda: writer.after(killed) > 20, 30, "rows after the loss of the first node")
    writer.stop()
    third.barrier()
    rows = {k for (k,) in third.sql("app.db", "SELECT k FROM log")}
    assert writer.acknowledged() <= rows
    assert not writer.failures()
    first.start()


def test_wrong_tokens_are_told_and_change_nothing(three, machines):
    first = leader_of(three)
    good = token(first)
    used = token(first)
    node = machines("n4")
    members = first.members()

    def refused(text, code, words, *servers):
        done = node.join(text, *(servers or [first]))
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert not node.config.exists() and not node.data.exists()
        assert first.members() == members

    refused(good[:-3], USAGE, "cut short")
    refused("hello", USAGE, "no token")
    wrong = good[:-1] + ("0" if good[-1] != "0" else "1")
    refused(wrong, NO_PERMISSION, "secret is wrong")
    prefix, ca, number, secret = good.split(".")
    refused(".".join([prefix, ca, "00" * 8, secret]), NO_PERMISSION, "not known")
    stranger = ".".join([prefix, "00" * 32, number, secret])
    refused(stranger, NO_PERMISSION, "no node of the cluster")
    refused(good, UNAVAILABLE, "cannot reach", "127.0.0.1:1")
    revoked = token(first)
    first.ask_cli("token", "revoke", revoked.split(".")[2])
    refused(revoked, NO_PERMISSION, "revoked")
    short = token(first, "--ttl", "1s")
    wait_for(lambda: states(first)[short.split(".")[2]] == "expired", 10, "the token's end")
    refused(short, NO_PERMISSION, "expired")
    other = machines("n5")
    assert other.join(used, first).returncode == 0
    try:
        members = wait_for(lambda: first.members() if "n5" in first.members() else None)
        refused(used, NO_PERMISSION, "used")
        taken = Machine(node.folder, "n5", PROGRAM)
        done = taken.join(good, first)
        assert (done.returncode, "has this name" in done.stderr) == (NO_PERMISSION, True)
        # The refused token is as good as before, and what is there is not overwritten.
        node.config.write_text("precious")
        done = node.join(good, first)
        assert (done.returncode, node.config.read_text()) == (CANNOT_CREATE, "precious")
        assert states(first)[number] == "unused"
    finally:
        first.ask_cli("member", "remove", "n5")


def states(machine):
    return {one["id"]: one["state"] for one in machine.answer("token", "list")["tokens"]}


def test_a_token_cannot_be_used_twice_at_once(three, machines):
    """Two machines with one token: one is let in."""
    first = leader_of(three)
    one = token(first)
    both = [machines("n6"), machines("n7")]
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda node: node.join(one, first), both))
    try:
        assert sorted(each.returncode for each in done) == [0, NO_PERMISSION], done
    finally:
        for node in both:
            first.ask_cli("member", "remove", node.name, check=False)


def test_a_learner_only_reads_until_it_is_promoted(three, machines):
    first = leader_of(three)
    first.sql("app.db", "INSERT INTO t VALUES (2)")
    node = machines("n8")
    assert node.join(token(first, "--learner"), first).returncode == 0
    node.start()
    wait_for(lambda: node.ask("/cluster")[1]["raft_role"] == "learner", 20, "a learner")
    wait_for(lambda: "read_only=true" in node.log(), 20, "a read-only mount")
    node.barrier()
    assert [2] in node.sql("app.db", "SELECT x FROM t")
    for statement in ("INSERT INTO t VALUES (3)", "CREATE TABLE u(x)"):
        with pytest.raises(SqlError) as refused:
            node.sql("app.db", statement)
        assert refused.value.name == "SQLITE_READONLY" and refused.value.seconds < 2
    made = node.cli_sqlite("new.db", "CREATE TABLE u(x)")
    assert made.returncode != 0 and "unable to open" in made.stderr, made
    first.ask_cli("member", "promote", "n8")
    wait_for(lambda: first.members()["n8"] == "voter", 20, "its vote")
    wait_for(lambda: "read_only=false" in node.log(), 20, "a mount for writers")
    node.sql("app.db", "INSERT INTO t VALUES (4)")
    again = first.ask_cli("member", "promote", "n8", check=False)
    assert (again.returncode, "votes already" in again.stderr) == (CANNOT_CREATE, True)
    first.ask_cli("member", "demote", "n8")
    assert first.members()["n8"] == "learner"
    # Two operators at once: one after the other, and the second is told.
    with ThreadPoolExecutor() as pool:
        both = list(
            pool.map(lambda _: first.ask_cli("member", "promote", "n8", check=False), range(2))
        )
    assert sorted(done.returncode for done in both) == [0, CANNOT_CREATE], both
    first.ask_cli("member", "remove", "n8")
    assert node.ends() == CONFIG


def test_a_removed_node_is_out_and_comes_back_as_a_new_one(three, machines):
    """nothing-discarded: what it held is set aside."""
    first = leader_of(three)
    node = next(node for node in three if node is not first)
    rest = [other for other in three if other is not node]
    first.ask_cli("member", "remove", node.name)
    assert node.ends() == CONFIG
    assert node.name not in first.members()
    (aside,) = (node.data / "aside").iterdir()
    assert (aside / "dbs").is_dir() and (aside / "raft").is_dir()
    node.start(ready=False)
    assert node.ends() == CONFIG
    assert "was removed from the cluster" in node.log()
    # Also without the note of it: the others do not know it.
    (node.data / "removed").unlink()
    first.sql("app.db", "INSERT INTO t VALUES (5)")
    done = node.join(token(first), *rest, replace=True)
    assert done.returncode == 0, done.stderr
    node.start()
    wait_for(lambda: first.members().get(node.name) == "voter", 30, "its vote")
    node.barrier()
    assert [5] in node.sql("app.db", "SELECT x FROM t")
    numbers = [member["id"] for member in first.ask("/members")[1]]
    assert max(numbers) > 3, "its old number is not used again"


def test_a_node_that_was_away_when_it_was_removed_finds_out(three, machines):
    first = leader_of(three)
    node = machines("n9")
    assert node.join(token(first), first).returncode == 0
    node.start()
    wait_for(lambda: first.members().get("n9") == "voter", 30, "its vote")
    node.stop(signal.SIGKILL)
    first.ask_cli("member", "remove", "n9")
    # For a second the leader still tries to tell it; after that nobody does.
    removed = time.monotonic()
    wait_for(lambda: time.monotonic() > removed + 1.5, 5)
    node.start(ready=False)
    assert node.ends() == CONFIG
    assert "do not know it as a member any more" in node.log()


def test_a_newcomer_reads_of_the_members_of_long_ago(machines):
    """converges: on its way through the log a new node hears of members that are none any more, and not
    yet of the one that leads now."""
    first, second, third = (machines(name) for name in ("o1", "o2", "o3"))
    first.init("old").start()

    def let_in(node, **more):
        assert node.join(token(first), first, **more).returncode == 0
        node.start()
        wait_for(lambda: first.members().get(node.name) == "voter", 30, f"the vote of {node}")

    def fill(node):
        node.sql("app.db", "CREATE TABLE IF NOT EXISTS t(x)", *[FILL] * 10)

    for node in (second, third):
        let_in(node)
        fill(first)
    for node in (third, second):
        leader = leader_of([first, second, third])
        if leader is node:
            first.ask_cli("switchover", "--to", "o1")
        first.ask_cli("member", "remove", node.name)
        assert node.ends() == CONFIG
        fill(first)
        if node is second:
            first.ask_cli("switchover", "--to", "o3")
            wait_for(third.is_primary, 20, "the new one leads")
        let_in(node, replace=True)
        node.barrier()
        assert node.sql("app.db", "SELECT count(*) FROM t") == first.sql(
            "app.db", "SELECT count(*) FROM t"
        )
    assert "is given to two members" not in second.log() + third.log()


def test_what_would_cost_the_quorum_is_refused(machines):
    """The last voter stays; and so does one whose loss leaves a minority."""
    first = machines("q1").init("other").start()
    # Alone it is its own majority, also a while after its last write.
    age = first.ask("/cluster")[1]["uptime_seconds"]
    wait_for(lambda: first.ask("/cluster")[1]["uptime_seconds"] > age + 1, 10, "two seconds")
    assert first.is_ready() and first.ask("/cluster")[1]["quorum"]["ok"]
    last = first.ask_cli("member", "remove", "q1", check=False)
    assert (last.returncode, "last voter" in last.stderr) == (UNAVAILABLE, True)
    last = first.ask_cli("member", "demote", "q1", check=False)
    assert (last.returncode, "last voter" in last.stderr) == (UNAVAILABLE, True)
    unknown = first.ask_cli("member", "remove", "nobody", check=False)
    assert (unknown.returncode, "no member named" in unknown.stderr) == (NO_INPUT, True)
    bad = first.ask_cli("member", "add", "Not_A_Name", "h:1", check=False)
    assert bad.returncode == UNAVAILABLE, bad.stderr
    others = [machines(name) for name in ("q2", "q3")]
    for node in others:
        assert node.join(token(first), first).returncode == 0
        node.start()
        wait_for(lambda n=node: first.members().get(n.name) == "voter", 30, "its vote")
    others[0].stop(signal.SIGKILL)
    leader = leader_of([first, others[1]])
    gone = wait_for(lambda: unreachable(leader), 10, "the leader to notice")
    kept = leader.ask_cli("member", "remove", "q3" if leader is first else "q1", check=False)
    assert (kept.returncode, "lose its quorum" in kept.stderr) == (UNAVAILABLE, True), kept
    # The dead one can go.
    leader.ask_cli("member", "remove", gone[0])
    assert set(leader.members()) == {"q1", "q3"}
    # The leader itself: another leads first.
    leader.ask_cli("member", "remove", leader.name)
    assert leader.ends() == CONFIG
    left = first if leader is others[1] else others[1]
    wait_for(left.is_primary, 20, "the last one leads")
    assert list(left.members()) == [left.name]
    left.sql("app.db", "CREATE TABLE t(x)")


def unreachable(machine):
    code, members = machine.ask("/members")
    return code == 200 and [one["name"] for one in members if not one["reachable"]]


def test_a_follower_is_asked_and_no_leader_is_told(three):
    follower = next(node for node in three if not node.is_primary())
    made = json.loads(follower.ask_cli("token", "create", "--json").stdout)
    assert made["state"] == "token" and made["token"].startswith("lfs1.")
    assert states(leader_of(three))[made["id"]] == "unused"
    assert made["token"] not in json.dumps(follower.answer("token", "list"))
    stopped = [node for node in three if node is not follower]
    for node in stopped:
        node.stop(signal.SIGKILL)
    wait_for(lambda: follower.ask("/cluster")[1]["leader"] is None, 20, "no leader")
    done = follower.ask_cli("token", "create", check=False)
    assert (done.returncode, "no leader" in done.stderr) == (TRY_AGAIN, True), done.stderr
    for node in stopped:
        node.start(ready=False)
    wait_for(lambda: all(node.is_ready() for node in three), 30, "all of them")
