"""Whether what was sampled stays bounded: the last third of a run against its middle third.

The first third is not looked at: buffers, caches and pools fill. What swings (a WAL under a reader) swings
in both thirds, so means are compared, and each third has to be long enough for some swings. A measure may
rise by what it says; what leaks steadily is, in the last third, above that.
"""

from dataclasses import asdict, dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Measure:
    """What may be added to the middle third's mean: a part of it, and so many units."""

    name: str
    label: str
    part: float
    units: float
    # For people: what a value is divided by, and what it is then.
    scale: float = MIB
    unit: str = "MiB"
    judged: bool = True


MEASURES = [
    Measure("memory", "memory (RSS)", 0.10, 8 * MIB),
    Measure("files", "open files", 0.0, 6, 1, ""),
    Measure("threads", "threads", 0.0, 16, 1, ""),
    Measure("disk", "disk use of the data folder", 0.20, 16 * MIB),
    Measure("log", "Raft log", 0.25, 8 * MIB),
    Measure("wal", "WAL in use", 0.25, 8 * MIB),
    # Never cut, so it keeps what it once needed: looked at, and judged by what is in use.
    Measure("wal_file", "WAL as a file", 0.25, 8 * MIB, judged=False),
    Measure("waiting", "requests that wait in the kernel", 0.0, 4, 1, ""),
]


@dataclass(frozen=True)
class Verdict:
    measure: Measure
    node: str
    middle: float
    last: float
    most: float
    bounded: bool

    def as_json(self):
        return {**asdict(self), "measure": self.measure.name}

    def __str__(self):
        value = [f"{n / self.measure.scale:.1f}" for n in (self.middle, self.last, self.most)]
        word = "bounded" if self.bounded else "GROWS  "
        return (
            f"{word} {self.node} {self.measure.label:<34} middle {value[0]:>8}  last {value[1]:>8}  "
            f"most {value[2]:>8} {self.measure.unit}"
        )


def judge(measure: Measure, node: str, values: list[float]) -> Verdict:
    """`values` in the order of time."""
    third = len(values) // 3
    if third < 3:
        raise ValueError("too few samples to tell")
    middle, last = values[third : 2 * third], values[2 * third :]
    before, after = sum(middle) / len(middle), sum(last) / len(last)
    bounded = after - before <= before * measure.part + measure.units
    return Verdict(measure, node, before, after, max(values), bounded)


def verdict(samples: list[dict]) -> list[Verdict]:
    """Of each measure on each node."""
    nodes = sorted({row["node"] for row in samples})
    return [
        judge(measure, node, [row[measure.name] for row in samples if row["node"] == node])
        for measure in MEASURES
        if measure.judged
        for node in nodes
    ]
