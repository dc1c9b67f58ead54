"""make bench: this program beside the plain file, in one run, on one disk.

    bench.py [--quick] [--rounds N] [--runs N] [PART ...]     parts: see PARTS below; default all

Medians and ranges as a Markdown table on stdout, every single value in bench/results/<date>.json.
Three nodes and their clients share this machine: absolute figures do not travel, ratios do. Nothing
is asserted. "reach" is what the project aims for.
"""

import argparse
import json
import os
import platform
import sqlite3
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "cluster"))

from devcluster import LOG_SCHEMA, Cluster, Hung, run, wait_for  # noqa: E402

WORK = Path(__file__).with_name("work.py")
DB = "bench.db"


class Bench:
    def __init__(self, cluster, plain, options):
        self.cluster, self.plain, self.options = cluster, plain, options
        self.rows = []

    def note(self, what, unit, ours, plain=None, reach=""):
        self.rows.append({"what": what, "unit": unit, "plain": plain, "ours": ours, "reach": reach})
        said = f"  {what}: {figures(ours)} {unit}"
        print(said + (f", plain {figures(plain)}" if plain else ""), file=sys.stderr, flush=True)

    def databases(self):
        """The plain file, the mount of the leader, that of a follower."""
        leader, follower = self.cluster.leader(), self.cluster.followers()[0]
        return str(self.plain), leader.db(DB), follower.db(DB)

    def runs(self, *cases):
        """Each case several times, in turns, so that a bad moment of the machine hits all. A case:
        arguments of work.py. Answers a list of results for each."""
        found = [[] for _ in cases]
        for _ in range(self.options.runs):
            for results, case in zip(found, cases, strict=True):
                results.append(work(*case))
        return found


def work(*arguments, deadline=300):
    return json.loads(run(sys.executable, WORK, *arguments, deadline=deadline).stdout)


def writes(bench):
    plain, leader, follower = bench.databases()
    seconds = bench.options.seconds
    normal, full, on_leader, on_follower = bench.runs(
        ("writes", plain, seconds, "NORMAL"),
        ("writes", plain, seconds, "FULL"),
        ("writes", leader, seconds, "FULL"),
        ("writes", follower, seconds, "FULL"),
    )
    bench.note("small writes on the leader; plain: FULL", "tx/s", on_leader, full, "2,500")
    bench.note("small writes on a follower; plain: FULL", "tx/s", on_follower, full, "1,200")
    bench.note("small writes on the leader; plain: NORMAL", "tx/s", on_leader, normal)
    bench.note("small writes on a follower; plain: NORMAL", "tx/s", on_follower, normal)


def reads(bench):
    plain, leader, follower = bench.databases()
    for kind, what, reach in (
        ("each", "reads by key, each its own transaction", "30,000"),
        ("one", "reads by key, all in one transaction", "0.95 of plain"),
    ):
        base, on_leader, on_follower = bench.runs(
            *(
                ("reads", database, bench.options.seconds, kind)
                for database in (plain, leader, follower)
            )
        )
        bench.note(f"{what}, on the leader", "/s", on_leader, base, reach)
        bench.note(f"{what}, on a follower", "/s", on_follower, base, reach)


def bulk(bench):
    plain, leader, follower = bench.databases()
    base, on_leader, on_follower = bench.runs(("bulk", plain), ("bulk", leader), ("bulk", follower))
    bench.note("100,000 rows in one transaction, on the leader", "s", on_leader, base)
    bench.note("100,000 rows in one transaction, on a follower", "s", on_follower, base)


def parallel(bench):
    """Eight clients, each on a database of its own."""
    from concurrent.futures import ThreadPoolExecutor

    count, leader = 8, bench.cluster.leader()
    places = {
        "plain": [str(bench.plain.with_name(f"plain{number}.db")) for number in range(count)],
        "ours": [leader.db(f"bench{number}.db") for number in range(count)],
    }
    found = {"plain": [], "ours": []}
    for databases in places.values():
        for database in databases:
            with_table(database)
    with ThreadPoolExecutor(count) as pool:
        for _ in range(bench.options.runs):
            for name, databases in places.items():
                jobs = [
                    pool.submit(work, "writes", d, bench.options.seconds, "FULL") for d in databases
                ]
                found[name].append(sum(job.result() for job in jobs))
    bench.note("8 clients on 8 databases, on the leader", "tx/s", found["ours"], found["plain"])


def with_table(database):
    script = "PRAGMA journal_mode = wal; CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT);"
    run("sqlite3", database, script)


def lag(bench):
    _, leader, follower = bench.databases()
    found = work("lag", leader, follower, 30 if bench.options.quick else 200)
    bench.note("from COMMIT to a reader on a follower", "ms", [1000 * value for value in found])


def failover(bench):
    for fault, what, reach in (
        (bench.cluster.kill, "pause after SIGKILL of the leader", "0.3, worst 0.6"),
        (bench.cluster.pause, "pause after SIGSTOP of the leader", "1.0"),
    ):
        gaps, failed = [], 0
        for _ in range(bench.options.rounds):
            leader, writer_node = bench.cluster.leader(), bench.cluster.followers()[0]
            with bench.cluster.writing("log.db", writer_node, timeout=20) as [writer]:
                moment = time.time()
                fault(leader)
                wait_for(lambda w=writer, m=moment: w.after(m) > 50, 60, "writes after the fault")
            gaps.append(writer.gap(moment))
            failed += len(writer.failures())
            bench.cluster.heal()
        bench.note(what, "s", gaps, reach=reach)
        bench.note(f"{what}: failed statements", "in all", [failed], reach="0")


def switchover(bench):
    gaps, failed = [], 0
    for _ in range(bench.options.rounds):
        target, other = bench.cluster.followers()
        with bench.cluster.writing("log.db", other, timeout=20) as [writer]:
            moment = time.time()
            bench.cluster.command("switchover", "--dir", bench.cluster.folder, "--to", target.name)
            wait_for(target.is_primary, 20, "the switchover")
            moment_after = time.time()
            wait_for(lambda w=writer, m=moment_after: w.after(m) > 50, 60, "writes after it")
        gaps.append(1000 * writer.gap(moment))
        failed += len(writer.failures())
    bench.note("pause of a switchover", "ms", gaps, reach="50")
    bench.note("failed statements of all switchovers", "in all", [failed], reach="0")


def resources(bench):
    """Memory and processor, all nodes; idle, then under the load of one writer on the leader."""
    nodes, seconds = bench.cluster.nodes, max(3, bench.options.seconds)

    def used(during):
        before, start = [node.cpu() for node in nodes], time.monotonic()
        during()
        took = time.monotonic() - start
        cpu = [100 * (n.cpu() - b) / took for n, b in zip(nodes, before, strict=True)]
        return [node.resident() / 1e6 for node in nodes], cpu

    # Ten seconds at least: processor time is counted in hundredths of a second.
    idle_memory, idle_cpu = used(lambda: time.sleep(max(10, seconds)))
    database = bench.cluster.leader().db(DB)
    loaded_memory, loaded_cpu = used(lambda: work("writes", database, seconds, "FULL"))
    bench.note("memory of a node, idle", "MB", idle_memory, reach="20")
    bench.note("memory of a node, loaded", "MB", loaded_memory, reach="40")
    bench.note("processor of a node, idle", "%", idle_cpu, reach="1")
    bench.note("processor of a node, loaded", "%", loaded_cpu)
    # What is shipped, where it was built (`make dist`).
    shipped = ROOT / "target" / "dist" / "litefs-py"
    program = shipped if shipped.exists() else bench.cluster.program
    size = program.stat().st_size / 1e6
    bench.note(f"size of the binary, {program.parent.name} build", "MB", [size], reach="10")


# `resources` first: memory is to be that of a fresh node.
PARTS = {
    part.__name__: part
    for part in (resources, writes, reads, bulk, parallel, lag, switchover, failover)
}


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def figures(values):
    """Median, and the range where there is one."""
    if len(values) == 1:
        return number(values[0])
    return f"{number(median(values))} ({number(min(values))}–{number(max(values))})"


def table(rows):
    lines = ["| what | plain | ours | ratio | reach |", "|---|---|---|---|---|"]
    for row in rows:
        plain = f"{figures(row['plain'])} {row['unit']}" if row["plain"] else ""
        ratio = f"{median(row['ours']) / median(row['plain']):.2f}" if row["plain"] else ""
        ours = f"{figures(row['ours'])} {row['unit']}"
        lines.append(f"| {row['what']} | {plain} | {ours} | {ratio} | {row['reach']} |")
    return "\n".join(lines)


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="3 rounds, 3 short runs")
    parser.add_argument("--rounds", type=int, help="of each failover and switchover (20)")
    parser.add_argument("--runs", type=int, help="of everything else (5)")
    parser.add_argument("--program", type=Path, help="default: target/release, else target/debug")
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
    return options


def main():
    options = read_options()
    started = datetime.now()
    # Not in /tmp, which may be memory: the same disk for both, and a real one.
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "target") as folder:
        cluster = Cluster(Path(folder) / "dev", program=options.program)
        try:
            bench = Bench(cluster.start(), Path(folder) / "plain.db", options)
            parts = [name for name in PARTS if not options.parts or name in options.parts]
            if "resources" in parts:
                # Before anything was loaded, hence with a small database.
                with_table(cluster.leader().db(DB))
                PARTS["resources"](bench)
                run("rm", cluster.leader().db(DB))
            work("prepare", bench.plain)
            work("prepare", cluster.leader().db(DB))
            cluster.settle(DB)
            cluster.create("log.db", *LOG_SCHEMA)
            for name in parts:
                if name != "resources":
                    print(name, file=sys.stderr)
                    try:
                        PARTS[name](bench)
                    except (AssertionError, Hung) as problem:
                        print(f"  {name} could not be measured: {problem}", file=sys.stderr)
                        cluster.heal()
            cluster.stop()
        finally:
            cluster.clear()
    results = ROOT / "bench" / "results" / f"{started:%Y-%m-%dT%H%M%S}.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    machine = {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "sqlite": sqlite3.sqlite_version,
    }
    kept = {"date": started.isoformat(), "program": str(options.program), "machine": machine}
    results.write_text(json.dumps(kept | {"rows": bench.rows}, indent=1) + "\n")
    print(table(bench.rows))
    print(
        f"\n{options.program.parent.name} build; SQLite {sqlite3.sqlite_version}; every value: {results}"
    )


if __name__ == "__main__":
    main()
