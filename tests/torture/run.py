#!/usr/bin/env python3
"""A cluster of real processes under a nemesis: faults from a seed, clients whose answers are checked.

    run.py --seed 1 --seconds 300 --nodes 3 [--faults kill-daemon,halves]

What it found is in target/torture/RUN: `report.json`, `timeline.svg`, the events, the nodes' logs, and
the histories of the rounds in which something was wrong. The exit code is 1 if anything was.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import final
import isolation
import judge
import nemesis
import timeline
from applications import Applications, database, plan
from daemons import Daemons
from disk_faults import STILL, STILL_TABLES
from events import Events
from faults import FAULTS
from report import Report, fault_windows, table
from version_faults import EARLIER, knows_members, left_out
from workloads import WORKLOADS

ROOT = Path(__file__).resolve().parents[2]
# When all faults are over: all nodes serve, and are at one position, within so many seconds.
CONVERGENCE = 30


def program():
    """LITEFS_PY, or what was built last: a release is faster, an old one proves nothing."""
    if path := os.environ.get("LITEFS_PY"):
        return Path(path)
    built = [ROOT / "target" / profile / "litefs-py" for profile in ("release", "debug")]
    there = [path for path in built if path.exists()]
    return max(there, key=lambda path: path.stat().st_mtime, default=built[-1])


def settings(seed, nodes):
    """Of the daemons: small logs that are purged often, small transactions that travel as files."""
    rng = random.Random(f"{seed}:settings")
    raft = {
        "log_purge_bytes": rng.choice(["1MiB", "4MiB", "64MiB"]),
        "staged_above": rng.choice(["64KiB", "1MiB"]),
    }
    told = {"raft": raft, "disk": "400m", "level": "info", "passthrough": "auto"}
    # Whether the nodes may be told what an earlier version does not know.
    return {**told, "newer": not EARLIER or knows_members()}


class Run:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.events = Events(folder / "events.jsonl")
        self.settings = settings(options.seed, options.nodes)
        self.settings["passthrough"] = options.passthrough
        nodes = folder / "nodes"
        self.daemons = Daemons(nodes, options.nodes, program(), self.events, self.settings)
        self.applications = Applications(self.events)
        told = {"seed": options.seed, "nodes": options.nodes, "settings": self.settings["raft"]}
        self.report = Report({**told, "left_out": options.left_out})
        self.origin = time.monotonic_ns()
        self.stopping = False
        self.aside = set()

    def say(self, text):
        print(f"{(time.monotonic_ns() - self.origin) / 1e9:7.1f}  {text}", flush=True)

    def problem(self, kind, text):
        self.report.problems.append({"kind": kind, "round": self.report.rounds, "text": text})
        self.say(f"PROBLEM {kind}: {text[:1500]}")

    def all(self):
        begin = time.monotonic()
        self.begin()
        left = self.options.seconds
        while left > 1 and not self.stopping:
            seconds = min(left, self.options.round)
            self.round(seconds)
            left -= seconds
            self.report.seconds = time.monotonic() - begin
            self.write()
        self.end()

    def begin(self):
        self.daemons.make()
        self.daemons.start()
        threading.Thread(target=self.watch_memory, daemon=True).start()
        if not self.daemons.wait_ready(CONVERGENCE):
            raise SystemExit(f"the cluster does not start; see {self.folder}/nodes/*/log")

    def end(self):
        self.daemons.stop()
        for event in self.events.of("hung-at-stop"):
            self.problem("hung at its stop", str(event))
        self.scan_logs()

    def watch_memory(self):
        while not self.daemons.over.wait(1):
            for node in self.daemons.nodes:
                self.report.see_memory(node.name, *node.memory())

    # One round: databases of its own, faults, healing, verdict

    def round(self, seconds):
        number = self.report.rounds
        seed = f"{self.options.seed}:{number}"
        clients = plan(self.daemons.nodes, random.Random(f"{seed}:clients"))
        for _, spec in clients:
            spec["savepoints"] = not self.options.no_savepoints
        names = sorted({database(spec) for _, spec in clients})
        kinds = {database(spec): spec["workload"] for _, spec in clients}
        self.create(names, kinds)
        names = sorted([*names, STILL])
        folder = self.folder / f"round-{number}"
        begin = time.monotonic_ns()
        self.applications.start(folder, clients, seed)
        world = nemesis.World(self.daemons, self.applications, self.events)
        whole = nemesis.torment(world, seed, seconds, self.options.faults, lambda: self.stopping)
        # Whoever did not come back will not: there is no other round.
        self.stopping |= not whole
        databases = self.heal()
        if set(databases) != set(names):
            self.problem("databases", f"there are {sorted(databases)}, not {names}")
        self.verdict(folder, databases, begin)

    def heal(self):
        """After the faults: all nodes serve, clients end, and all nodes hold the same; the databases."""
        healed = time.monotonic()
        if self.daemons.wait_ready(CONVERGENCE):
            self.report.recoveries.append(time.monotonic() - healed)
        else:
            states = {node.name: node.ask("/cluster") for node in self.daemons.nodes}
            self.problem("not ready", f"{CONVERGENCE} s after the last fault: {states}")
        time.sleep(0.5)
        for hung in self.applications.stop():
            self.problem("hung client", hung)
        stopped = time.monotonic()
        databases, problems = final.compare(self.daemons, CONVERGENCE)
        self.report.convergences.append(time.monotonic() - stopped)
        for text in problems:
            self.problem("not the same everywhere", text)
        return databases

    def verdict(self, folder, databases, begin):
        before = len(self.report.problems)
        tally, found = judge.judge(folder, self.daemons, databases, self.events)
        for name, anomalies in found.items():
            for anomaly in anomalies:
                self.problem(anomaly.kind, f"{name}: {anomaly}")
        for error, count in judge.strange_errors(tally).items():
            self.problem("strange error", f"{count} times: {error}")
        longest, dead = judge.longest_wait(tally.slow), judge.longest_wait(tally.dead_slow)
        self.report.longest = max(self.report.longest, longest)
        self.report.longest_dead = max(self.report.longest_dead, dead)
        for seconds, what in (longest, dead):
            if seconds > judge.LONGEST:
                self.problem("slow answer", f"{seconds:.1f} s: {what}")
        self.look_at_events(begin)
        self.look_aside()
        windows = fault_windows(self.events, begin, time.monotonic_ns())
        self.report.add_round(tally, windows, self.origin)
        totals = self.report.totals
        self.say(
            f"round {self.report.rounds}: {len(windows)} faults, {tally.ok} acknowledged, "
            f"{tally.unknown} unknown, {tally.fail} refused, {tally.reads} reads; in all "
            f"{totals['acknowledged']} acknowledged, {self.report.faults.total()} faults, "
            f"{len(self.report.problems)} problems"
        )
        if len(self.report.problems) == before and not self.options.keep:
            shutil.rmtree(folder)

    def look_at_events(self, begin):
        for event in self.events.of("end", since=begin):
            if event["wanted"] and not event["allowed"]:
                log = "\n".join(event["log"])
                self.problem("a node ended", f"{event['node']} with {event['code']}:\n{log}")
        for event in self.events.of("not-ready", since=begin):
            states = "\n".join(f"{node}: {state}" for node, state in event["states"].items())
            self.problem("no recovery", f"after {event['after']}:\n{states}")
        for event in self.events.of(
            "client-ended", "fault-failed", "hung-switchover", "hung-visitor", since=begin
        ):
            self.problem(event["what"], str(event))
        for event in self.events.of("ready", since=begin):
            self.report.recoveries.append(event["seconds"])

    def create(self, names, kinds):
        """Fresh databases, of the same names as in the round before."""
        if not self.daemons.wait_ready(CONVERGENCE):
            self.problem("not ready", "before a round")
        node = self.daemons.leader() or self.daemons.nodes[0]
        there = node.positions() or {}
        for name in sorted(there):
            isolation.command("rm", "-f", str(node.mount / name))
        for name in names:
            script = ";\n".join(["BEGIN IMMEDIATE", *WORKLOADS[kinds[name]].TABLES, "COMMIT"])
            final.shell(node, name, script + ";", mode="rwc")
        final.shell(node, STILL, ";\n".join(STILL_TABLES) + ";", mode="rwc")
        if self.daemons.settled(CONVERGENCE) is None:
            self.problem("not the same everywhere", "after the databases were made")

    def look_aside(self):
        """Nothing is to be set aside (nothing-discarded); the faults that damage files, or remove members,
        have taken away what they led to."""
        for node in self.daemons.nodes:
            for path in sorted((node.data / "aside").glob("*")):
                if (node.name, path.name) not in self.aside:
                    self.aside.add((node.name, path.name))
                    self.problem("set aside", f"{node}: {path.name}")

    def scan_logs(self):
        for node in self.daemons.everybody:
            if not node.log.exists():
                continue
            for line in node.log.read_text(errors="replace").splitlines():
                if "panicked" in line:
                    self.problem("panic", f"{node}: {line}")
                elif " ERROR " in line and len(self.report.notices) < 200:
                    self.report.notices.append(f"{node}: {line[:400]}")

    def write(self):
        self.report.write(self.folder / "report.json")
        told = self.options
        title = f"seed {told.seed}, {told.nodes} nodes, {self.report.faults.total()} faults"
        (self.folder / "timeline.svg").write_text(timeline.draw(self.report, title))


def parse():
    parser = argparse.ArgumentParser(description="A cluster under a nemesis.")
    parser.add_argument("--seed", type=int, default=None, help="default: a random one")
    parser.add_argument("--seconds", type=float, default=100, help="of faults, all rounds together")
    parser.add_argument("--round", type=float, default=100, help="seconds of one round")
    parser.add_argument("--nodes", type=int, choices=(3, 5), default=3)
    parser.add_argument("--faults", default="", help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--without", default="", help="faults that are left out")
    parser.add_argument("--keep", action="store_true", help="the histories of good rounds too")
    parser.add_argument("--passthrough", choices=("auto", "off"), default="auto")
    parser.add_argument("--no-savepoints", action="store_true", help="see workloads.Orders")
    parser.add_argument("--folder", type=Path, help="default: target/torture/NODES-SEED")
    options = parser.parse_args()
    named = [name for name in options.faults.split(",") if name]
    without = [name for name in options.without.split(",") if name]
    if unknown := set(named + without) - set(FAULTS):
        parser.error(f"no such faults: {', '.join(unknown)}")
    picked = named or list(FAULTS)
    options.left_out = {name: why for name, why in left_out().items() if name in picked}
    options.faults = [name for name in picked if name not in [*without, *options.left_out]]
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(10**6)
    return options


def main():
    options = parse()
    if reason := isolation.why_not(program()):
        print(f"SKIPPED torture: {reason}")
        print("0 passed, 0 failed, 1 skipped")
        return 0
    name = f"{options.nodes}-nodes-seed-{options.seed}"
    folder = (options.folder or ROOT / "target/torture" / name).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"seed {options.seed}, {options.nodes} nodes, {options.seconds:.0f} s, in {folder}")
    for fault, why in options.left_out.items():
        print(f"left out: {fault}: {why}")
    isolation.enter()
    run = Run(options, folder)
    signal.signal(signal.SIGTERM, lambda *_: setattr(run, "stopping", True))
    signal.signal(signal.SIGINT, lambda *_: setattr(run, "stopping", True))
    run.all()
    run.report.finished = not run.stopping
    run.write()
    print(table(run.report.gaps, run.report.stalls))
    print(f"longest wait of a client {run.report.longest[0]:.1f} s")
    problems = len(run.report.problems)
    print(f"{run.report.rounds} rounds, {problems} problems; seed {options.seed}; {folder}")
    failed = len({problem["round"] for problem in run.report.problems})
    print(f"{max(0, run.report.rounds - failed)} passed, {failed} failed, 0 skipped")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
