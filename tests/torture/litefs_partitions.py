#!/usr/bin/env python3
"""Partitions between the machines of a cluster with `engine: litefs`, one after the other, and what came of
each: how long who was cut off went on writing, and how soon another wrote.

    litefs_partitions.py --folder F          writes F/partitions.json
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

import isolation
import litefs_judge
import nemesis
from faults import fault
from litefs_daemons import why_not
from litefs_faults import HARMLESS
from litefs_run import MODES, LitefsRun
from network import between
from run import program

# Another node writes within so many seconds after a cut, or never.
ELSEWHERE = 20
SETTINGS = {"ttl": "3s"}


def wait_until(condition, seconds=ELSEWHERE):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


def others(world, node):
    return [each.name for each in world.daemons.nodes if each is not node]


def cut(world, node, cuts, until):
    """Begun under load; healed when `until` holds, and some more was written."""
    world.note(node=node.name, cut=sorted(cuts), t=time.monotonic_ns())
    world.network.cut(cuts)
    wait_until(until)
    time.sleep(1)
    world.network.heal()
    world.note(healed=time.monotonic_ns())


def primary(world, cuts_of):
    node = world.daemons.leader()

    def another():
        return any(
            each is not node and each.ask("/primary")[0] == 200 for each in world.daemons.nodes
        )

    cut(world, node, cuts_of(node.name, others(world, node)), another)


@fault("primary-alone", 0)
def primary_alone(world, _):
    primary(world, lambda node, rest: between([node], rest))


@fault("primary-unheard", 0)
def primary_unheard(world, _):
    """What it sends is lost; it hears the others."""
    primary(world, lambda node, rest: {(node, each) for each in rest})


@fault("primary-deaf", 0)
def primary_deaf(world, _):
    """What is sent to it is lost; the others hear it."""
    primary(world, lambda node, rest: {(each, node) for each in rest})


@fault("replica-alone", 0)
def replica_alone(world, _):
    """For longer than a lease lasts."""
    leader = world.daemons.leader()
    node = next(each for each in world.daemons.nodes if each is not leader)
    end = time.monotonic() + 6
    cut(world, node, between([node.name], others(world, node)), lambda: time.monotonic() > end)


SCENARIOS = ["primary-alone", "primary-unheard", "primary-deaf", "replica-alone"]
HARMLESS.append("replica-alone")


def acknowledged(run, number):
    """(node, begin, end) of the writes, in the order of their ends."""
    folder, found = run.folder / f"round-{number}", []
    for mode in MODES:
        for op in litefs_judge.load(folder, f"{mode}-{number}.db"):
            if op.op["f"] == "write" and op.status == "ok":
                found.append((op.node, op.begin, op.end))
    return sorted(found, key=lambda each: each[2])


def scenario(run, name):
    number, before = run.report.rounds, len(run.report.problems)
    lost = dict(run.report.lost)

    def torment(world, _seed):
        # Everybody writes, or tries to.
        time.sleep(1.5)
        return nemesis.one_fault(world, name, random.Random(0))

    run.one_round(torment)
    facts = run.events.of("healed")[-1]["facts"]
    node, begun, healed = facts["node"], facts["t"], facts["healed"]
    writes = acknowledged(run, number)
    during = [each for each in writes if begun <= each[2] <= healed]
    there = [each for each in during if each[0] == node]
    elsewhere = [each for each in during if each[0] != node]
    since = lambda when: round((when - begun) / 1e9, 3)  # noqa: E731
    ends = [begun, *(each[2] for each in elsewhere), healed]
    return {
        "before": sum(1 for each in writes if each[2] < begun),
        "written_there": len(there),
        "written_elsewhere": len(elsewhere),
        "written_after": sum(1 for each in writes if each[1] > healed),
        "stopped_after": since(there[-1][2]) if there else 0.0,
        "elsewhere_after": since(elsewhere[0][2]) if elsewhere else None,
        "longest_pause_elsewhere": max(b - a for a, b in zip(ends, ends[1:], strict=False)) / 1e9,
        "lost": {what: n - lost.get(what, 0) for what, n in run.report.lost.items()},
        "problems": [problem["text"] for problem in run.report.problems[before:]],
    }


def main():
    parser = argparse.ArgumentParser(description="Partitions of a cluster with LiteFS.")
    parser.add_argument("--folder", type=Path, required=True)
    folder = parser.parse_args().folder.resolve()
    if reason := why_not(program()):
        print(f"SKIPPED partitions: {reason}")
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    isolation.enter()
    run = LitefsRun(argparse.Namespace(seed=0, keep=True, seconds=0, nodes=3), folder, SETTINGS)
    run.begin()
    found = {name: scenario(run, name) for name in SCENARIOS}
    run.end()
    (folder / "partitions.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))
    return 1 if run.report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
