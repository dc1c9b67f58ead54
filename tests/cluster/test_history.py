"""`/history` and `litefs-py history`: who led when, in which term, and why it changed; the same on every
node, over restarts."""

import json
import signal

from devcluster import run, wait_for


def told(node):
    return node.ask("/history")[1]


def change_after(cluster, term, *causes):
    """The first change with that cause after this term, once every node that runs tells the same. On a
    machine with too much to do another election may follow it."""

    def alike():
        later = [[x for x in told(node) if x["term"] > term] for node in cluster.running()]
        found = [x for x in later[0] if x["cause"] in causes]
        return all(x == later[0] for x in later) and found and found[0]

    try:
        change = wait_for(alike, 10)
    except AssertionError:
        said = "\n".join(f"{node}: {told(node)[-3:]}" for node in cluster.running())
        raise AssertionError(f"not {causes} in the history of all nodes:\n{said}") from None
    assert change["told_by"] == change["leader"], "whoever took office tells why"
    return change


def test_each_change_has_its_reason(cluster):
    """One run through all of them; then the nodes are restarted, and know it still."""
    change = change_after(cluster, 0, "first")
    assert change["before"] is None and change["without_leader_ms"] is None

    # Planned, by the Unix socket of a node that does not lead.
    leader, (asked, target), term = cluster.leader(), cluster.followers(), cluster.nodes[0].term()
    by = ("--dir", cluster.folder, "--node", asked.name)
    cluster.command("switchover", *by, "--to", target.name)
    change = change_after(cluster, term, "switchover")
    assert change["asked"] == f"the Unix socket of {asked.name}"
    assert (change["before"], change["leader"]) == (leader.name, target.name)

    # Its process dies.
    leader = cluster.leader()
    term = leader.term()
    cluster.kill(leader)
    change = change_after(cluster, term, "died")
    assert change["before"] == leader.name
    assert 0 <= change["without_leader_ms"] < 5000
    cluster.heal()

    # It is frozen: nothing says so but that it is silent.
    leader = cluster.leader()
    term = leader.term()
    cluster.pause(leader)
    change = change_after(cluster, term, "silent")
    assert change["before"] == leader.name
    assert change["without_leader_ms"] >= 300, "an election timeout, before anything is noticed"
    cluster.heal()
    change_after(cluster, term, "silent")

    # It is stopped in order.
    leader = cluster.leader()
    term = leader.term()
    cluster.kill(leader, signal.SIGTERM)
    change_after(cluster, term, "stopped")
    cluster.heal()
    change_after(cluster, term, "stopped")

    before = told(cluster.leader())
    terms = [change["term"] for change in before]
    assert terms == sorted(set(terms)), "the newest last, one leader a term"

    # Everybody at once: nobody was there to see who led meanwhile, so there was no majority; or the one
    # that was handed over to last was silent to the others.
    term = cluster.leader().term()
    cluster.stop()
    for name in ("n1", "n2", "n3"):
        kept = (cluster.folder / name / "data" / "history").read_text().splitlines()
        assert len(kept) >= len(before)
    # A line that is torn costs that line.
    damaged = cluster.folder / "n1" / "data" / "history"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    cluster.start()
    leader = cluster.leader()
    change_after(cluster, term, "no-quorum", "silent")
    for node in cluster.nodes:
        wait_for(lambda node=node: told(node)[: len(before)] == before, 10, f"{node}'s history")

    shown = run(cluster.program, "history", "--dir", cluster.folder).stdout
    assert shown.splitlines()[0].split() == ["TERM", "LEADER", "SINCE", "NO", "LEADER", "WHY"]
    assert {change["leader"] for change in before} <= set(shown.split())
    said = json.loads(run(cluster.program, "history", "--json", "--dir", cluster.folder).stdout)
    assert said[: len(before)] == before
