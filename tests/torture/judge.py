"""A round's verdict: reads what its clients recorded, and has the checker look at it.

One database at a time, so that a long run needs no more memory than its largest database.
"""

from array import array
from collections import Counter
from pathlib import Path

import final
from checker import lists, logs
from checker.models import MODELS
from checker.operations import Anomaly, Lives, read_history

# What a client may be told while the cluster is under torment. Anything else is looked into.
EXPECTED = (
    "BUSY",  # another writer, or no leader
    "locked",  # the same, as the shell says it
    "IOERR",  # the daemon has gone, or a COMMIT was refused
    "disk I/O",
    "CANTOPEN",  # the daemon is down
    "unable to open",
    "FULL",
    "full",
    "READONLY",  # a learner's mount
    "readonly",
    "no barrier",
    "ended",
    "no such table",  # the bare folder beneath the mount, by a shell that was too early
)
# What is answered sooner is no open outcome, seconds (write.commit_timeout, less a margin).
COMMIT_TIMEOUT = 12
# The end of a daemon is noticed within so many seconds.
NOTICED = 0.5
# What takes longer is a stall worth a look, seconds.
SLOW = 0.05
# No statement takes longer (bounded-answer): busy timeout, commit_timeout, and a pause of a daemon.
LONGEST = 30


class Tally:
    """What the clients of a round did, in numbers."""

    def __init__(self):
        self.ok, self.fail, self.unknown, self.reads, self.barriers = 0, 0, 0, 0, 0
        self.errors = Counter()
        self.acknowledged = {}  # node -> times of acknowledged writes
        self.slow, self.dead_slow = [], []  # (begin, end, what) of what took long
        self.by_workload = Counter()
        # Answers of connections whose daemon was gone: what they saw, and what they were told.
        self.dead_reads, self.dead_errors = 0, Counter()

    def add(self, op, write, workload, dead):
        if op.error and dead:
            self.dead_errors[op.error] += 1
        elif op.error:
            self.errors[op.error] += 1
        if dead and not write and op.status == "ok":
            self.dead_reads += 1
        if op.end is not None and op.end - op.begin > SLOW * 1e9 and not op.op.get("hold"):
            (self.dead_slow if dead else self.slow).append((op.begin, op.end, str(op)))
        if not write:
            self.reads += op.status == "ok"
            self.barriers += op.status == "ok" and op.barrier is not None
        elif op.status == "ok":
            # A comparison that failed; a VACUUM.
            if op.value is None:
                return
            self.ok += 1
            self.by_workload[workload] += 1
            self.acknowledged.setdefault(op.node, array("q")).append(op.end)
        elif op.status == "fail":
            self.fail += 1
        else:
            self.unknown += 1


def is_write(op):
    return op.op["f"] not in ("read", "long")


def refused(op, lives):
    """Whether a COMMIT that failed is one that did not happen: its daemon lived on, and answered
    before `commit_timeout`, so it knew the verdict (README.md, "A COMMIT that fails")."""
    if op.status != "unknown" or op.end is None or op.end - op.begin > COMMIT_TIMEOUT * 1e9:
        return False
    said = any(name in op.error for name in ("IOERR", "disk I/O error", "FULL", "disk is full"))
    return said and not lives.outlived(op, margin=NOTICED)


def load(folder, name, tally, lives):
    """All operations on a database, of all its clients; and which workload it was."""
    operations, workload = [], None
    for path in sorted(folder.glob(f"{name}.*.jsonl")):
        _, workload, node, wid, _ = path.name.rsplit(".", 4)
        for op in read_history(path, int(wid), node):
            if refused(op, lives):
                op.status = "fail"
            tally.add(op, is_write(op), workload, lives.outlived(op))
            operations.append(op)
    return operations, workload


def judge(folder, daemons, databases, events):
    """(tally, {database: anomalies})."""
    tally, found = Tally(), {}
    lives = Lives(events.times("start"), events.times("down"))
    node = daemons.nodes[0]
    for name in databases:
        operations, workload = load(Path(folder), name, tally, lives)
        if workload is None:
            continue
        try:
            if workload == "lists":
                anomalies = lists.check(operations, final.lists(node, name), lives)
            else:
                rows = final.log_rows(node, name)
                anomalies = logs.check(operations, rows, MODELS[workload](), lives)
        except final.Unreadable as error:
            anomalies = [Anomaly("unreadable", str(error))]
        if anomalies:
            found[name] = anomalies
    return tally, found


def strange_errors(tally):
    return {
        error: count
        for error, count in tally.errors.items()
        if not any(known in error for known in EXPECTED)
    }


def longest_wait(slow):
    """(seconds, what it was) of the operation that took longest."""
    if not slow:
        return 0.0, ""
    begin, end, what = max(slow, key=lambda each: each[1] - each[0])
    return (end - begin) / 1e9, what
