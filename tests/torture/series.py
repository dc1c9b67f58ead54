#!/usr/bin/env python3
"""Several runs one after another, and one table of all.

    series.py --nodes 3 --seeds 1-4 --seconds 500 [--litefs]

A run whose report is there, finished, by the same program, is not made again: a series that was ended
goes on where it was. The closing line counts rounds.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import isolation
import litefs_daemons
from report import spread, table
from run import ROOT, program

HERE = Path(__file__).parent


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seeds(text):
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def done(folder, wanted):
    """The report of a run that needs not be made again."""
    try:
        report = json.loads((folder / "report.json").read_text())
        mark = (folder / "program").read_text()
    except (OSError, json.JSONDecodeError):
        return None
    return report if report["finished"] and mark == wanted else None


def joined(reports):
    """The figures of all runs in one."""
    gaps, stalls, converged = {}, {}, []
    totals, faults, memory = Counter(), Counter(), 0
    for report in reports:
        totals.update(report["transactions"])
        faults.update(report["faults"])
        for kind, values in report["raw"]["gaps"].items():
            gaps.setdefault(kind, []).extend(values)
        for kind, values in report["raw"]["stalls"].items():
            stalls.setdefault(kind, []).extend(values)
        converged += report["raw"]["converged"]
        memory = max([memory, *report["most_memory"].values()])
    lines = [
        table(gaps, stalls),
        "",
        f"{len(reports)} runs, {sum(r['seconds_of_run'] for r in reports) / 60:.0f} minutes, seeds "
        + ", ".join(f"{r['seed']} ({r['nodes']} nodes)" for r in reports),
        f"{faults.total()} faults; transactions: "
        + ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in totals.items()),
        f"lost {sum(r['lost'] for r in reports)}, duplicated "
        f"{sum(r['duplicated'] for r in reports)}, problems {sum(len(r['problems']) for r in reports)}",
        f"longest wait of a client {max(r['longest_wait_of_a_client'][0] for r in reports):.1f} s; "
        f"all nodes the same after {spread(converged)} s; most memory {memory >> 20} MiB",
    ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description="Several runs of run.py.")
    parser.add_argument("--nodes", type=int, choices=(3, 5), default=3)
    parser.add_argument("--seeds", type=seeds, required=True, help="such as 1-4")
    parser.add_argument("--seconds", type=int, required=True, help="of faults, each run")
    parser.add_argument("--litefs", action="store_true", help="the other engine: litefs_run.py")
    options = parser.parse_args()
    why_not = litefs_daemons.why_not if options.litefs else isolation.why_not
    if reason := why_not(program()):
        print(f"SKIPPED torture: {reason}")
        print("0 passed, 0 failed, 1 skipped")
        return 0
    wanted = f"{digest(program())} {options.seconds}"
    reports, broken = [], 0
    for seed in options.seeds:
        name = "litefs" if options.litefs else f"{options.nodes}-nodes"
        folder = ROOT / "target/torture" / f"{name}-seed-{seed}"
        if done(folder, wanted) is None:
            arguments = ["--seed", seed, "--seconds", options.seconds]
            script = "litefs_run.py" if options.litefs else "run.py"
            if not options.litefs:
                arguments += ["--nodes", options.nodes]
            subprocess.run([sys.executable, str(HERE / script), *map(str, arguments)], check=False)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "program").write_text(wanted)
        report = done(folder, wanted)
        if report is None:
            broken += 1
        else:
            reports.append(report)
    if reports:
        print(joined(reports))
    failed = broken + sum(len({p["round"] for p in r["problems"]}) for r in reports)
    passed = sum(r["rounds"] for r in reports) + broken - failed
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
