#!/usr/bin/env python3
"""A cluster with `engine: litefs` under a nemesis, as run.py has it for the default engine.

    litefs_run.py --seed 1 --seconds 300 [--round 60] [--faults kill-litefs,primary-cut]
    litefs_run.py --faults planned        of which nothing may be lost

What is promised there is in docs/litefs.md, and how it is judged in litefs_judge.py. What it found is in
target/torture/litefs-seed-N. The exit code is 1 if anything was wrong.
"""

import argparse
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import final
import isolation
import nemesis
from applications import Applications
from events import Events
from faults import FAULTS
from litefs_client import TABLES
from litefs_daemons import LitefsDaemons, why_not
from litefs_faults import HARMLESS, LOSING
from litefs_judge import Verdict, strange_errors
from report import Report, fault_windows, table
from run import CONVERGENCE, ROOT, Run, program

# Clients of each node, one on a database in WAL mode and one with a rollback journal.
MODES = ("wal", "delete")


def settings(seed):
    rng = random.Random(f"{seed}:settings")
    litefs = {
        "ttl": rng.choice(["1s", "2s", "3s"]),
        # Whoever was away for longer than that gets whole databases.
        "retention": rng.choice(["10m", "10s"]),
        "retention_monitor_interval": "2s",
    }
    told = {"disk": "400m", "level": "info", "passthrough": "auto", "raft": {}}
    return {**told, "newer": True, "litefs": litefs}


class LitefsReport(Report):
    def __init__(self, told):
        super().__init__(told)
        self.lost, self.span, self.tenures = {}, 0.0, 0

    def add_verdict(self, verdict):
        for what, number in verdict.lost.items():
            self.lost[what] = self.lost.get(what, 0) + number
        self.span = max(self.span, verdict.span)

    def document(self):
        told = {"lost": self.lost.get("acknowledged", 0), "lost_how": self.lost}
        span = round(self.span, 2)
        return {**super().document(), **told, "lost_after_fault": span, "tenures": self.tenures}


class LitefsRun(Run):
    """`Run`, with its own nodes, clients and verdict."""

    def __init__(self, options, folder, litefs=None):
        self.options, self.folder = options, folder
        self.events = Events(folder / "events.jsonl")
        self.settings = settings(options.seed)
        if litefs is not None:
            self.settings["litefs"] = litefs
        self.daemons = LitefsDaemons(folder / "nodes", 3, program(), self.events, self.settings)
        self.applications = Applications(self.events)
        # One that took too long; one whose LiteFS went from beneath its memory.
        self.applications.ends |= {-signal.SIGALRM, -signal.SIGBUS}
        told = {"seed": options.seed, "nodes": 3, "settings": self.settings["litefs"]}
        self.report = LitefsReport(told)
        self.origin = time.monotonic_ns()
        self.stopping = False
        self.tenures, self.aside = {}, set()

    def round(self, seconds):
        def torment(world, seed):
            faults = self.options.faults
            return nemesis.torment(world, seed, seconds, faults, lambda: self.stopping)

        self.one_round(torment)

    def one_round(self, torment):
        """Databases of its own, clients, faults, healing, verdict."""
        number = self.report.rounds
        seed = f"{self.options.seed}:{number}"
        names = [f"{mode}-{number}.db" for mode in MODES]
        self.create(names)
        folder, begin = self.folder / f"round-{number}", time.monotonic_ns()
        clients = [
            (node, {"workload": "rows", "program": "litefs", "db": name})
            for node in self.daemons.nodes
            for name in names
        ]
        self.applications.start(folder, clients, seed)
        world = nemesis.World(self.daemons, self.applications, self.events)
        whole = torment(world, seed)
        self.stopping |= not whole
        databases = self.heal()
        if missing := set(names) - set(databases):
            self.problem("databases", f"{sorted(missing)} are not there")
        self.litefs_verdict(folder, names, begin)

    def litefs_verdict(self, folder, names, begin):
        before = len(self.report.problems)
        self.tenures |= self.daemons.tenures()
        self.report.tenures = len(self.tenures)
        now = time.monotonic_ns()
        windows = fault_windows(self.events, begin, now)
        losing = [(start, end) for kind, start, end in windows if kind not in HARMLESS]
        wiped = [each for each in self.daemons.wiped if each[1] > begin]
        verdict = Verdict(self.tenures, losing, wiped, self.daemons.ends(begin))
        kept = self.look_aside(folder, names)
        for name in names:
            verdict.judge(folder, self.daemons.nodes[0], name, kept.get(name, set()))
        for anomaly in verdict.anomalies[:20]:
            self.problem(anomaly.kind, str(anomaly))
        tally = verdict.tally
        for error, count in strange_errors(tally).items():
            self.problem("strange error", f"{count} times: {error}")
        self.look_at_events(begin)
        self.report.add_round(tally, windows, self.origin)
        self.report.add_verdict(verdict)
        self.say(
            f"round {self.report.rounds}: {len(windows)} faults, {tally.ok} acknowledged, {tally.unknown} "
            f"unknown, {tally.fail} refused, {tally.reads} reads, {verdict.lost}; "
            f"{len(self.report.problems)} problems"
        )
        if len(self.report.problems) == before and not self.options.keep:
            shutil.rmtree(folder)

    def create(self, names):
        if not self.daemons.wait_ready(CONVERGENCE):
            self.problem("not ready", "before a round")
        end, said = time.monotonic() + CONVERGENCE, ""
        for name, mode in zip(names, MODES, strict=True):
            script = f"PRAGMA journal_mode = {mode}; BEGIN; {'; '.join(TABLES)}; COMMIT;"
            while time.monotonic() < end:
                try:
                    node = self.daemons.leader() or self.daemons.nodes[0]
                    final.shell(node, name, script, mode="rwc")
                    break
                except final.Unreadable as error:
                    # The primary changes at this moment.
                    said = str(error)
            else:
                raise SystemExit(f"{name} cannot be made: {said}")
        if self.daemons.settled(CONVERGENCE) is None:
            self.problem("not the same everywhere", "after the databases were made")

    def look_aside(self, folder, names):
        """{database: {(who, n)}} of what was newly set aside, on all nodes; by the program's own commands."""
        kept = {}
        for node in self.daemons.nodes:
            for listed in self.daemons.diverged(node):
                mark = (node.name, listed["id"])
                if mark in self.aside:
                    continue
                self.aside.add(mark)
                for database in listed["databases"]:
                    if (name := database["name"]) in names:
                        kept.setdefault(name, set()).update(self.export(folder, node, *mark, name))
        return kept

    def export(self, folder, node, _, kept, name):
        out = folder / f"{node}-{kept}.db"
        command = [str(self.daemons.program), "diverged", "export", "--config", str(node.config)]
        try:
            isolation.command(*command, kept, str(out), seconds=30)
            text = isolation.command(
                "sqlite3", str(out), "PRAGMA integrity_check", "SELECT who, n FROM log"
            )
        except OSError as error:
            self.problem("not exported", str(error))
            return set()
        checked, *lines = text.decode().splitlines()
        if checked != "ok":
            self.problem("set aside, and broken", f"{node}: {kept}: {checked} {lines[:5]}")
            lines = [line for line in lines if line.replace("|", "").isdigit()]
        return {tuple(map(int, line.split("|"))) for line in lines}


def parse():
    parser = argparse.ArgumentParser(description="A cluster with LiteFS under a nemesis.")
    parser.add_argument("--seed", type=int, default=None, help="default: a random one")
    parser.add_argument("--seconds", type=float, default=60, help="of faults, all rounds together")
    parser.add_argument("--round", type=float, default=60, help="seconds of one round")
    every = [*LOSING, *HARMLESS]
    parser.add_argument("--faults", default="", help=f"planned, or of {', '.join(every)}")
    parser.add_argument("--keep", action="store_true", help="the histories of good rounds too")
    parser.add_argument("--folder", type=Path, help="default: target/torture/litefs-seed-SEED")
    options = parser.parse_args()
    named = [name for name in options.faults.split(",") if name]
    options.faults = HARMLESS if named == ["planned"] else named or every
    if unknown := set(options.faults) - set(FAULTS):
        parser.error(f"no such faults: {', '.join(unknown)}")
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(10**6)
    return options


def main():
    options = parse()
    if reason := why_not(program()):
        print(f"SKIPPED litefs nemesis: {reason}")
        print("0 passed, 0 failed, 1 skipped")
        return 0
    folder = (options.folder or ROOT / f"target/torture/litefs-seed-{options.seed}").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    isolation.enter()
    options.nodes = 3
    run = LitefsRun(options, folder)
    print(f"seed {options.seed}, {run.settings['litefs']}, {options.seconds:.0f} s, in {folder}")
    signal.signal(signal.SIGTERM, lambda *_: setattr(run, "stopping", True))
    signal.signal(signal.SIGINT, lambda *_: setattr(run, "stopping", True))
    run.all()
    report = run.report
    report.finished = not run.stopping
    run.write()
    print(table(report.gaps, report.stalls))
    print(f"lost: {report.lost}; up to {report.span:.1f} s after a fault began")
    problems = len(report.problems)
    print(f"{report.rounds} rounds, {problems} problems; seed {options.seed}; {folder}")
    failed = len({problem["round"] for problem in report.problems})
    print(f"{max(0, report.rounds - failed)} passed, {failed} failed, 0 skipped")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
