"""Operations as the clients recorded them, and anomalies as the checker reports them."""

import json
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field


@dataclass(slots=True)
class Operation:
    """What a client asked for, when, and what came of it. `end`: none when it never heard.
    `status`: ok, fail (it did not happen) or unknown."""

    wid: int
    node: str
    op: dict
    begin: int
    end: int | None = None
    status: str = "unknown"
    value: dict | None = None
    error: str = ""
    barrier: int | None = None
    # When its connection was opened: asked for, and there.
    opened: tuple[int, int] | None = None

    @property
    def n(self):
        return self.op["n"]

    def __str__(self):
        end = "never" if self.end is None else f"{(self.end - self.begin) / 1e6:.1f} ms"
        what = {key: value for key, value in self.op.items() if key != "n"}
        told = f" -> {self.value}" if self.value is not None else ""
        why = f" ({self.error})" if self.error else ""
        at = self.begin / 1e9
        return f"[{self.wid}.{self.n} on {self.node} at {at:.6f}, {end}: {what} {self.status}{why}{told}]"


@dataclass(slots=True)
class Anomaly:
    """`kind`: a short name. `text`: what contradicts what."""

    kind: str
    text: str
    operations: list = field(default_factory=list)

    def __str__(self):
        return "\n".join([f"{self.kind}: {self.text}", *(f"    {op}" for op in self.operations)])


def read_history(path, wid, node):
    """The operations of one client's file, in order. The last may have no end, and the last line may
    be cut off."""
    current, opened = None, None
    with open(path, encoding="utf-8") as lines:
        for text in lines:
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            if "o" in line:
                opened = (line["o"], line["t"])
            elif "i" in line:
                if current is not None:
                    yield current
                current = Operation(wid, node, line["i"], line["t"])
            elif current is not None:
                current.end, current.status = line["t"], line["s"]
                current.value, current.error = line.get("v"), line.get("e", "")
                current.barrier, current.opened = line.get("b"), opened
                yield current
                current = None
    if current is not None:
        yield current


class Lives:
    """Which life of a node's daemon a moment belongs to: a node's memory ends with it."""

    def __init__(self, starts, downs=None):
        """Of each node: when its daemon was started, and when it was killed or told to stop."""
        self.starts = {node: sorted(times) for node, times in starts.items()}
        self.downs = {node: sorted(times) for node, times in (downs or {}).items()}

    def of(self, op):
        """(node, number) of the life that the operation's connection belongs to. None when the
        daemon was started anew while it was opened: it may belong to either."""
        if op.opened is None:
            return None
        starts = self.starts.get(op.node, [])
        life = bisect_right(starts, op.opened[0])
        return (op.node, life) if bisect_right(starts, op.opened[1]) == life else None

    def outlived(self, op, margin=0):
        """Whether the daemon ended between the opening of the connection and the operation's end:
        the connection is to a mount that is dead. `margin`: seconds after it that count too."""
        if op.opened is None:
            return False
        downs = self.downs.get(op.node, [])
        end = (op.end or op.begin) + int(margin * 1e9)
        ended = bisect_right(downs, end)
        if ended > bisect_right(downs, op.opened[0]):
            return True
        # Opened while the daemon was on its way to its end already.
        starts = self.starts.get(op.node, [])
        life = bisect_right(starts, op.opened[0])
        return ended > 0 and life > 0 and downs[ended - 1] >= starts[life - 1]


class RunningMaximum:
    """The largest of the values that came before a time."""

    def __init__(self, pairs):
        self.times, self.tops = [], []
        for time, value, *what in sorted(pairs, key=lambda pair: pair[0]):
            top = (value, *what)
            if self.tops and self.tops[-1][0] >= value:
                top = self.tops[-1]
            self.times.append(time)
            self.tops.append(top)

    def before(self, time):
        """(value, what), or none."""
        place = bisect_left(self.times, time)
        return self.tops[place - 1] if place else None
