#!/usr/bin/env python3
"""Half an hour of full write load: does anything grow that must not?

    soak.py [--seconds 1800] [--sample 2] [--folder target/torture/soak-TIME]

Three nodes of `litefs-py dev` with a short log, so that it is purged all the time. On each node an
application writes as fast as it can, and another holds a read transaction for a twentieth of the run and
then lets go for a moment, so that WALs grow and can shrink again. The rows are a ring: what is stored
does not grow by itself.

Of each node is sampled: memory, open files, threads, disk use of the data folder, of the Raft log and of
the WAL, and requests that wait in the kernel. Written are samples.csv, report.json and soak.svg; printed
one line for each measure and node, and `N passed, N failed, N skipped`. The verdict compares the last
third of the run with the middle one (soak_verdict.py). At the end no transaction is missing and all nodes
are equal (no-lost-ack, converges).
"""

import argparse
import csv
import json
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "cluster")]

from devcluster import ROOT, Cluster, die_with_parent  # noqa: E402
from soak_plot import plot  # noqa: E402
from soak_verdict import MEASURES, verdict  # noqa: E402

DATABASE = "soak.db"
# How many rows there are, and how long each may be.
RING, LONGEST = 3000, 12_000
# Of the log, so that many purges happen: the default is 64 MiB.
SETTINGS = {"log_purge_bytes: 64MiB": "log_purge_bytes: 4MiB"}
# Between two read transactions of a long reader, seconds.
PAUSE = 3.0

SCHEMA = (
    "PRAGMA journal_mode = wal",
    "CREATE TABLE ring(who TEXT, slot INTEGER, n INTEGER, pad BLOB, PRIMARY KEY(who, slot))",
    "CREATE TABLE counter(who TEXT PRIMARY KEY, n INTEGER)",
)


# The applications, each a process of its own


def write(path, who):
    """Until SIGTERM; then says how many COMMITs returned, and how many are unknown."""
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    database = sqlite3.connect(path, timeout=20, isolation_level=None)
    done = unknown = busy = n = 0
    while not stop:
        n += 1
        try:
            database.execute("BEGIN IMMEDIATE")
            database.execute(
                "INSERT OR REPLACE INTO ring VALUES (?, ?, ?, randomblob(?))",
                (who, n % RING, n, n * 7919 % LONGEST),
            )
            database.execute(
                "INSERT INTO counter VALUES (?, 1) ON CONFLICT(who) DO UPDATE SET n = n + 1", (who,)
            )
            database.execute("COMMIT")
            done += 1
        except sqlite3.OperationalError as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            if "locked" in str(error) or "busy" in str(error):
                busy += 1
            else:
                unknown += 1
    print(json.dumps({"done": done, "unknown": unknown, "busy": busy}), flush=True)


def read(path, hold):
    """A snapshot for so many seconds, again and again; it must not move (readers-go-on)."""
    database = sqlite3.connect(path, timeout=20, isolation_level=None)
    while True:
        database.execute("BEGIN")
        look = "SELECT coalesce(sum(n), 0) FROM counter"
        before = database.execute(look).fetchone()
        end = time.monotonic() + float(hold)
        while time.monotonic() < end:
            # What a long report does: a look now and then.
            time.sleep(min(1.0, float(hold)))
            if database.execute(look).fetchone() != before:
                sys.exit("the snapshot moved")
        database.execute("COMMIT")
        time.sleep(PAUSE)


def application(*arguments):
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,
    )


# Samples


def disk_use(folder):
    """Bytes that the files below take, as du counts them; files may go while it looks."""
    total = 0
    for path, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.lstat(os.path.join(path, file)).st_blocks * 512
            except FileNotFoundError:
                pass
    return total


def waiting(mount):
    """Requests of this mount that the kernel has not got an answer for; 0 where it does not tell."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4] == str(mount):
            number = fields[2].split(":")[1]
            try:
                return int(Path(f"/sys/fs/fuse/connections/{number}/waiting").read_text())
            except OSError:
                return 0
    return 0


def wal_in_use(node):
    """Bytes of frames up to the live end, as the wal-index's header says it (SQLite file format, the
    WAL-index): the file itself keeps the size that it once had. Read from the data folder, not from
    the mount."""
    total = 0
    for folder in (node.folder / "data" / "dbs").iterdir():
        indexes = sorted(folder.glob("shm-*"), key=lambda path: int(path.name.partition("-")[2]))
        if indexes:
            head = indexes[-1].read_bytes()[:48]
            if len(head) == 48:
                page, frames = struct.unpack("=HI", head[14:20])
                total += frames * ((65536 if page == 1 else page) + 24)
    return total


def sample(node):
    status = Path(f"/proc/{node.pid}/status").read_text()

    def number(name):
        return int(status.split(f"{name}:")[1].split()[0])

    told = node.databases().get(DATABASE, {})
    return {
        "memory": number("VmRSS") * 1024,
        "peak": number("VmHWM") * 1024,
        "files": len(os.listdir(f"/proc/{node.pid}/fd")),
        "threads": number("Threads"),
        "disk": disk_use(node.folder / "data"),
        "log": disk_use(node.folder / "data" / "raft"),
        "wal": wal_in_use(node),
        "wal_file": int(told.get("wal_bytes") or 0),
        "waiting": waiting(node.mount),
        "txid": int(str(told.get("position", "0")).partition("/")[0] or "0", 16),
    }


def soak(cluster, seconds, every, out):
    """Runs the load, and answers the samples, and what the writers say."""
    cluster.start()
    cluster.create(DATABASE, *SCHEMA)
    writers = {
        node.name: application("write", node.db(DATABASE), node.name) for node in cluster.nodes
    }
    hold = max(2.0, seconds / 20)
    readers = {node.name: application("read", node.db(DATABASE), hold) for node in cluster.nodes}
    samples = []
    began = time.monotonic()
    try:
        with open(out / "samples.csv", "w", newline="") as file:
            rows = None
            while (now := time.monotonic() - began) < seconds:
                for node in cluster.nodes:
                    row = {"seconds": round(now, 1), "node": node.name, **sample(node)}
                    if rows is None:
                        rows = csv.DictWriter(file, row.keys())
                        rows.writeheader()
                    rows.writerow(row)
                    samples.append(row)
                file.flush()
                for name, process in {**writers, **readers}.items():
                    if process.poll() is not None:
                        raise AssertionError(
                            f"an application on {name} ended: {process.stdout.read()}"
                        )
                # The measures are taken at a pace; nothing is waited for.
                time.sleep(max(0.0, every - (time.monotonic() - began - now)))
        told = {}
        for name, process in writers.items():
            process.terminate()
            told[name] = json.loads(process.communicate(timeout=60)[0])
    finally:
        for process in [*writers.values(), *readers.values()]:
            process.kill()
            process.wait(30)
    return samples, told


def check(cluster, told):
    """no-lost-ack, converges: what each counter says is what was acknowledged, or is unknown."""
    cluster.same(DATABASE, deadline=60)
    problems = []
    for who, n in cluster.nodes[0].sql(DATABASE, "SELECT who, n FROM counter"):
        least, most = told[who]["done"], told[who]["done"] + told[who]["unknown"]
        if not least <= n <= most:
            problems.append(f"{who}: {least} acknowledged, {n} counted")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--sample", type=float, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--program", type=Path, default=os.environ.get("LITEFS_PY"))
    options = parser.parse_args()
    out = options.folder or ROOT / time.strftime("target/torture/soak-%Y%m%d-%H%M%S")
    out.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(out / "cluster", program=options.program, settings=SETTINGS)
    # Ended from outside it takes its cluster with it, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        samples, told = soak(cluster, options.seconds, options.sample, out)
        problems = check(cluster, told)
        for node in cluster.nodes:
            shutil.copy(node.folder / "log", out / f"{node.name}.log")
        if code := cluster.stop():
            problems.append(f"litefs-py dev ended with {code}")
        problems += cluster.leftovers()
    finally:
        cluster.clear()
    return report(out, options.seconds, samples, told, problems)


def report(out, seconds, samples, told, problems):
    verdicts = verdict(samples)
    shutil.rmtree(out / "cluster", ignore_errors=True)
    done = {
        "seconds": seconds,
        "acknowledged": sum(who["done"] for who in told.values()),
        "unknown": sum(who["unknown"] for who in told.values()),
        "busy": sum(who["busy"] for who in told.values()),
        "problems": problems,
        "measures": [v.as_json() for v in verdicts],
    }
    (out / "report.json").write_text(json.dumps(done, indent=1) + "\n")
    (out / "soak.svg").write_text(plot(samples, MEASURES))
    for v in verdicts:
        print(v)
    for problem in problems:
        print(f"FAILED {problem}")
    print(f"{done['acknowledged']} transactions acknowledged, {done['unknown']} unknown; see {out}")
    failed = sum(not v.bounded for v in verdicts) + len(problems)
    passed = sum(v.bounded for v in verdicts) + (not problems)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        write(*sys.argv[2:])
    elif sys.argv[1:2] == ["read"]:
        read(*sys.argv[2:])
    else:
        sys.exit(main())
