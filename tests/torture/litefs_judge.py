"""The verdict on `engine: litefs`, by what its clients recorded.

no-lost-ack is not promised: what is lost has to be lost to a fault that may lose it, and shortly before it, and
has to be kept (nothing-discarded). All the rest is promised.
"""

from pathlib import Path

import final
import judge
from checker.operations import Anomaly, read_history

# What is lost was acknowledged no longer before the fault that lost it than a replica may lag, seconds: an
# application that stands still, or a stalled reader, holds it up.
LAG = 5.0
# And no longer after the end of the fault than a primary may go on by its lease, and it takes to choose another.
AFTER = 8.0
# What a history says in milliseconds, nanoseconds.
ROUNDED = 2_000_000
# The end of LiteFS is noticed so much later, at most, and a client's answer is late by so much, nanoseconds.
NOTICED, LATE = 2_000_000_000, 500_000_000
WIPED, IN_FLIGHT = "gone with a wiped disk", "in flight when LiteFS ended"
OVERRULED = "overruled"
EXPECTED = (*judge.EXPECTED, "PROTOCOL", "locking protocol")


def load(folder, name):
    """All operations on a database, of all its clients."""
    for path in sorted(Path(folder).glob(f"{name}.*.jsonl")):
        _, _workload, node, wid, _ = path.name.rsplit(".", 4)
        yield from read_history(path, int(wid), node)


def key(op):
    return op.wid, op.n


def rows(node, name):
    """(seq, who, n) of both tables, and the counter, as one statement sees them."""
    script = "SELECT 'l', seq, who, n FROM log UNION ALL SELECT 't', seq, who, n FROM twin "
    script += "UNION ALL SELECT 'c', n, 0, 0 FROM counter"
    found = {"l": [], "t": [], "c": []}
    for line in final.shell(node, name, script).decode().split():
        table, *numbers = line.split("|")
        found[table].append(tuple(map(int, numbers)))
    return sorted(found["l"]), sorted(found["t"]), found["c"][0][0]


class Verdict:
    """`tenures`: {number: (since, node)}. `kept`: {(who, n)} of what was set aside. `losing`: (from, to) of the
    faults that may lose something. `wiped`: (node, when). `ends`: (node, when) of LiteFS's processes."""

    def __init__(self, tenures, losing, wiped, ends):
        self.tenures = [tenures[number] for number in sorted(tenures)]
        self.losing, self.wiped = losing, wiped
        # In WAL mode SQLite has committed before LiteFS does: LiteFS hears of it when the write lock is given
        # back. So one transaction of a database may be answered, and be nowhere, when its process ends.
        self.ends = {(node, when): set() for node, when in ends}
        self.tally, self.anomalies = judge.Tally(), []
        self.lost = dict.fromkeys(("acknowledged", "kept", WIPED, IN_FLIGHT, OVERRULED), 0)
        # (node, who, n) of the last row that readers saw.
        self.seen = {}
        self.span = 0.0

    def bad(self, kind, text, *operations):
        self.anomalies.append(Anomaly(kind, text, list(operations)))

    def judge(self, folder, node, name, kept):
        operations = list(load(folder, name))
        try:
            log, twin, counter = rows(node, name)
        except final.Unreadable as error:
            return self.bad("unreadable", str(error))
        self.seen[name] = set()
        begun = {key(op): op for op in operations if op.op["f"] == "write"}
        for op in operations:
            write = op.op["f"] == "write"
            self.tally.add(op, write, name, dead=False)
            if write and op.status == "ok":
                self.of_a_primary(op)
            elif op.status == "ok":
                self.whole(name, op, begun)
        if log != twin or counter != len(log):
            self.bad(
                "half", f"{name}: {len(log)} rows, {len(twin)} twins, the counter says {counter}"
            )
        there = {(who, n): seq for seq, who, n in log}
        for row in sorted(there.keys() - begun.keys()):
            self.bad("from nowhere", f"{name}: the row {row}, which nobody wrote")
        for row in sorted(there.keys() & begun.keys()):
            if begun[row].status == "fail":
                self.bad("refused, and there", name, begun[row])
        self.look_at_lost(name, begun, there, kept)

    def of_a_primary(self, op):
        """one-primary: whoever acknowledges has the lease, and nobody else has it since before."""
        for place, (since, node) in enumerate(self.tenures):
            later = self.tenures[place + 1 :]
            until = later[0][0] if later else None
            if node != op.node or since > op.end + ROUNDED:
                continue
            if until is None or until + ROUNDED >= op.begin:
                return
        if self.tenures and op.end < self.tenures[0][0]:
            # So long ago that the history does not say.
            return
        self.bad("acknowledged by no primary", str(self.tenures[-6:]), op)

    def whole(self, name, op, begun):
        """What a reader saw is nothing half, and nothing that nobody wrote."""
        rows, twins, counter, *tops = op.value["v"]
        if not rows == twins == counter or tops[:3] != tops[3:]:
            self.bad("half, to a reader", str(op.value), op)
        if tops[0] is not None:
            self.seen[name].add((op.node, tops[1], tops[2]))
            writer = begun.get((tops[1], tops[2]))
            if writer is None or writer.begin > op.end:
                self.bad("from nowhere, to a reader", str(op.value), op)

    def look_at_lost(self, name, begun, there, kept):
        acknowledged = [op for op in begun.values() if op.status == "ok"]
        seqs = {seq: begun.get(row) for row, seq in there.items()}
        for op in acknowledged:
            seq = there.get(key(op))
            if seq is not None:
                if seq != op.value["q"]:
                    self.bad("moved", f"{name}: it is at {seq}", op)
                continue
            self.lost["acknowledged"] += 1
            self.overruled(name, op, seqs.get(op.value["q"]))
            self.excused(name, op)
            if key(op) in kept:
                self.lost["kept"] += 1
            elif any(node == op.node and when > op.begin for node, when in self.wiped):
                self.lost[WIPED] += 1
            elif self.in_flight(name, op):
                self.lost[IN_FLIGHT] += 1
            else:
                self.bad("discarded", f"{name}: it was lost, and is not set aside anywhere", op)

    def overruled(self, name, op, rival):
        """caught-up: the history of an earlier primary came back, over a later one that others had followed. If
        nobody had, that is a loss like any other."""
        if rival is None or rival.status != "ok" or rival.end > op.begin:
            return
        self.lost[OVERRULED] += 1
        if any(who == op.wid and n >= op.n and node != op.node for node, who, n in self.seen[name]):
            text = (
                f"{name}: others had it, and yet an earlier {op.value['q']}th row came back over it"
            )
            self.bad("overruled", text, op, rival)

    def in_flight(self, name, op):
        if not name.startswith("wal"):
            return False
        for (node, when), databases in self.ends.items():
            if node == op.node and name not in databases and -NOTICED <= op.end - when <= LATE:
                databases.add(name)
                return True
        return False

    def excused(self, name, op):
        near = [
            begin
            for begin, end in self.losing
            if begin - LAG * 1e9 <= op.end and op.begin <= end + AFTER * 1e9
        ]
        if near:
            self.span = max(self.span, (op.end - max(near)) / 1e9)
            return
        self.bad("lost without a fault", f"{name}: no fault that may lose it was near", op)


def strange_errors(tally):
    return {e: n for e, n in tally.errors.items() if not any(known in e for known in EXPECTED)}
