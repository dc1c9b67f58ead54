"""Checks the workloads that write a log: its rows are the one history, played back by a model."""

from .operations import Anomaly, RunningMaximum

MOST = 20
READS = ("read", "long")


class LogCheck:
    """`rows`: (seq, who, n, a, b, c) of the log, at the end, in order."""

    def __init__(self, operations, rows, model, lives):
        self.operations, self.rows, self.model, self.lives = operations, rows, model, lives
        self.anomalies = []
        self.counts = {}
        self.seq = {}

    def add(self, kind, text, *operations):
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= MOST:
            self.anomalies.append(Anomaly(kind, text, list(operations)))

    def run(self):
        self.check_rows()
        self.check_writes()
        self.check_states()
        self.check_order()
        return self.anomalies

    def check_rows(self):
        """The rows are numbered without gaps, and none is there twice."""
        known = {(op.wid, op.n): op for op in self.operations}
        for place, (seq, who, n, *_) in enumerate(self.rows, 1):
            if seq != place:
                self.add("gap in the log", f"row {place} has the number {seq}")
                break
        for seq, who, n, *_ in self.rows:
            if (who, n) in self.seq:
                text = f"rows {self.seq[who, n]} and {seq} are the same transaction"
                self.add("duplicated", text, *filter(None, [known.get((who, n))]))
            self.seq[who, n] = seq
            if (who, n) not in known:
                self.add("from nowhere", f"row {seq} is of {who}.{n}, which nobody asked for")

    def happened(self, op):
        return self.seq.get((op.wid, op.n))

    def check_writes(self):
        """no-lost-ack; a transaction that was refused did not happen."""
        for op in self.operations:
            if op.op["f"] in READS:
                continue
            seq = self.happened(op)
            if op.status == "ok" and op.value is not None:
                if seq is None:
                    self.add("lost", "acknowledged, and not there", op)
                elif seq != op.value["q"]:
                    self.add("moved", f"its row has the number {seq}", op)
            elif op.status != "unknown" and seq is not None:
                self.add("refused but there", f"as row {seq}", op)

    def check_states(self):
        """Every reader saw the history up to one point, whole."""
        reads = [op for op in self.operations if op.op["f"] in READS and op.status == "ok"]
        reads.sort(key=lambda op: op.value["q"])
        place = 0
        for op in reads:
            if "changed" in op.value:
                self.add("snapshot changed", "while it was open", op)
            while place < len(self.rows) and self.rows[place][0] <= op.value["q"]:
                place = self.play(place)
            if op.value["q"] > len(self.rows):
                self.add("dirty read", f"row {op.value['q']} is not in the history", op)
                continue
            expected = self.model.expected()
            seen = {key: op.value[key] for key in expected}
            if seen != expected:
                self.add("wrong state", f"at row {op.value['q']} it was {expected}", op)
        while place < len(self.rows):
            place = self.play(place)

    def play(self, place):
        seq, who, n, *what = self.rows[place]
        wrong = self.model.apply(*what)
        if wrong:
            self.add("wrong row", f"row {seq} of {who}.{n}: {wrong}")
        return place + 1

    def check_order(self):
        """The order of the history against real time."""
        placed = [(op, seq) for op in self.operations if (seq := self.place(op)) is not None]
        acknowledged, by_life, asked = [], {}, {}
        for op, seq in placed:
            if op.op["f"] not in READS:
                asked[seq] = op
                if op.status == "ok":
                    acknowledged.append((op.end, seq, op))
            if op.status == "ok" and (life := self.lives.of(op)):
                by_life.setdefault(life, []).append((op.end, seq, op))
        writers = RunningMaximum(acknowledged)
        nodes = {life: RunningMaximum(pairs) for life, pairs in by_life.items()}
        for op, seq in placed:
            if op.op["f"] not in READS:
                self.after("order against real time", writers.before(op.begin), seq, op)
            elif op.barrier and not self.lives.outlived(op):
                self.after("stale after a barrier", writers.before(op.barrier), seq, op)
            if op.op["f"] in READS and seq in asked and asked[seq].begin > op.end:
                self.add("read from the future", f"row {seq} was not written yet", op, asked[seq])
            if op.status == "ok" and (life := self.lives.of(op)):
                self.after("back in time on a node", nodes[life].before(op.begin), seq, op)

    def place(self, op):
        """Where in the history it stands: what it wrote, or up to where it read."""
        if op.op["f"] in READS:
            return op.value["q"] if op.status == "ok" else None
        return self.happened(op) if op.status != "fail" else None

    def after(self, kind, before, seq, op):
        if before and before[0] > seq:
            text = f"it is at row {seq}, row {before[0]} was known before it began"
            self.add(kind, text, op, before[1])


def check(operations, rows, model, lives):
    return LogCheck(operations, rows, model, lives).run()
