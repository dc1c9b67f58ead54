"""`/history` and `litefs-py history`: who led when, in which term, and why it changed; the same on every
node, over restarts."""

import json
import signal

from devcluster import run, wait_for


def told(node):
    return node.ask("/history")[1]


def newest(cluster, leader, cause):
    """The newest change, once every node that runs tells it alike."""

    def alike():
        last = [told(node)[-1] for node in cluster.running()]
        return all(x == last[0] for x in last) and last[0]["cause"] == cause and last[0]

    try:
        change = wait_for(alike, 10)
    except AssertionError:
        said = "\n".join(f"{node}: {told(node)[-3:]}" for node in cluster.running())
        raise AssertionError(f"not {cause} in the history of all nodes:\n{said}") from None
    assert change["leader"] == leader.name == change["told_by"]
    assert change["term"] == leader.term()
    return change


def test_each_change_has_its_reason(cluster):
    """One run through all of them; then the nodes are restarted, and know it still."""
    first = cluster.leader()
    change = newest(cluster, first, "first")
    assert change["before"] is None and change["without_leader_ms"] is None

    # Planned, by the Unix socket of a node that does not lead.
    asked, target = cluster.followers()
    cluster.command(
        "switchover", "--dir", cluster.folder, "--node", asked.name, "--to", target.name
    )
    change = newest(cluster, target, "switchover")
    assert change["asked"] == f"the Unix socket of {asked.name}"
    assert change["before"] == first.name

    # Its process dies.
    cluster.kill(target)
    survivor = cluster.leader()
    change = newest(cluster, survivor, "died")
    assert change["before"] == target.name
    assert 0 <= change["without_leader_ms"] < 5000
    cluster.restart(target)

    # It is frozen: nothing says so but that it is silent.
    cluster.pause(survivor)
    other = cluster.leader()
    change = newest(cluster, other, "silent")
    assert change["without_leader_ms"] >= 300, "an election timeout, before anything is noticed"
    cluster.resume(survivor)
    newest(cluster, other, "silent")

    # It is stopped in order.
    cluster.kill(other, signal.SIGTERM)
    last = cluster.leader()
    newest(cluster, last, "stopped")
    cluster.restart(other)
    newest(cluster, last, "stopped")

    before = told(last)
    assert [change["cause"] for change in before] == [
        "first", "switchover", "died", "silent", "stopped",
    ]  # fmt: skip
    terms = [change["term"] for change in before]
    assert terms == sorted(set(terms)), "the newest last, one leader a term"

    # Everybody at once: nobody was there to see who led meanwhile, so there was no majority.
    cluster.stop()
    for name in ("n1", "n2", "n3"):
        kept = (cluster.folder / name / "data" / "history").read_text().splitlines()
        assert len(kept) >= len(before)
    # A line that is torn costs that line.
    damaged = cluster.folder / "n1" / "data" / "history"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    cluster.start()
    leader = cluster.leader()
    change = newest(cluster, leader, "no-quorum")
    for node in cluster.nodes:
        wait_for(lambda node=node: told(node)[: len(before)] == before, 10, f"{node}'s history")

    shown = run(cluster.program, "history", "--dir", cluster.folder).stdout.splitlines()
    assert shown[0].split() == ["TERM", "LEADER", "SINCE", "NO", "LEADER", "WHY"]
    assert shown[-1].endswith("there had been no majority")
    said = json.loads(run(cluster.program, "history", "--json", "--dir", cluster.folder).stdout)
    assert said == told(leader)
