"""make bench: this program beside the plain file, in one run, on one disk.

    bench.py [--quick] [--rounds N] [--runs N] [PART ...]     parts: see PARTS below; default all

Medians and ranges as a Markdown table on stdout, every single value in bench/results/<date>.json. All
nodes and their clients share this machine: absolute figures do not travel, ratios do. Nothing is
asserted. "reach" is what the project aims for, "got" how far it is; docs/performance.md says how to
read it.
"""

import argparse
import json
import os
import platform
import signal
import sqlite3
import sys
import tempfile
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "cluster"))

from common import Bench, Skipped  # noqa: E402
from counts import counts  # noqa: E402
from devcluster import Hung  # noqa: E402
from five import five  # noqa: E402
from large import joining, large, twenty  # noqa: E402
from pauses import failover, switchover  # noqa: E402
from resources import amplification, resources  # noqa: E402
from small import bulk, fifty, lag, parallel, reads, writes  # noqa: E402
from table import markdown  # noqa: E402

from litefs import litefs  # noqa: E402

# In this order. `resources` wants a cluster that nobody has used; those after `failover` make their
# own, and put this one away.
PARTS = {
    part.__name__: part
    for part in (
        resources, writes, reads, bulk, parallel, fifty, lag, counts, switchover, failover,
        amplification, five, large, joining, twenty, litefs,
    )
}  # fmt: skip


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="3 rounds, 3 short runs, small data")
    parser.add_argument("--rounds", type=int, help="of each failover and switchover (20)")
    parser.add_argument("--runs", type=int, help="of everything else (5)")
    parser.add_argument("--program", type=Path, help="default: target/release, else target/debug")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: target")
    options = parser.parse_args()
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"there is no part {part!r}; the parts are: {', '.join(PARTS)}")
    options.rounds = options.rounds or (3 if options.quick else 20)
    options.runs = options.runs or (3 if options.quick else 5)
    options.seconds = 1 if options.quick else 3
    if options.program is None:
        builds = [ROOT / "target" / profile / "litefs-py" for profile in ("release", "debug")]
        options.program = next((build for build in builds if build.exists()), builds[0])
    # Not in /tmp, which may be memory: the same disk for both, and a real one.
    options.folder = options.folder or ROOT / "target"
    return options


def measure(bench, parts):
    """Runs the parts; what could not be measured, and why."""
    left_out = []
    for name in parts:
        print(name, file=sys.stderr, flush=True)
        try:
            PARTS[name](bench)
        except (AssertionError, Hung, Skipped) as problem:
            word = "skipped" if isinstance(problem, Skipped) else "could not be measured"
            left_out.append(f"{name} {word}: {problem}")
            print(f"  {left_out[-1]}", file=sys.stderr, flush=True)
            if not isinstance(problem, Skipped):
                bench.heal()
    return left_out


def keep(options, started, rows, left_out):
    results = ROOT / "bench" / "results" / f"{started:%Y-%m-%dT%H%M%S}.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    machine = {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "sqlite": sqlite3.sqlite_version,
    }
    kept = {
        "date": started.isoformat(),
        "program": str(options.program),
        "machine": machine,
        "rows": [row.kept() for row in rows],
        "left_out": left_out,
    }
    results.write_text(json.dumps(kept, indent=1) + "\n")
    return results


def main():
    # So that an end by SIGTERM takes everything down, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = read_options()
    started = datetime.now()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        bench = Bench(folder, options)
        try:
            left_out = measure(bench, [name for name in PARTS if name in (options.parts or PARTS)])
        finally:
            bench.put_away()
    results = keep(options, started, bench.rows, left_out)
    print(markdown(bench.rows))
    print(
        f"\n{options.program.parent.name} build; SQLite {sqlite3.sqlite_version}; every value: {results}"
    )
    for line in left_out:
        print(line)


if __name__ == "__main__":
    main()
