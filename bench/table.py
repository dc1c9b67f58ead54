"""What was measured, as rows of one table, each held against what the project aims for."""

from dataclasses import dataclass, field
from statistics import median


def number(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def figures(values):
    """Median, and the range where there is one."""
    if len(values) == 1:
        return number(values[0])
    return f"{number(median(values))} ({number(min(values))}–{number(max(values))})"


@dataclass(frozen=True)
class Reach:
    """What a figure is to be. A speed: at least this part of what the plain file does beside it on
    the same machine, for absolute speeds do not travel. Anything else: at most so much, in the
    median, and at worst."""

    ratio: float | None = None
    most: float | None = None
    worst: float | None = None
    # By how much `most` may be passed: it is a count that something is added to now and then.
    about: float = 0

    def __str__(self):
        if self.ratio is not None:
            return f"{self.ratio} of plain"
        parts = [f"≤ {number(self.most)}"] if self.most is not None else []
        parts += [f"worst ≤ {number(self.worst)}"] if self.worst is not None else []
        return ", ".join(parts)

    def got(self, ours, plain):
        """`reached`, or by how much it is missed."""
        if self.ratio is not None:
            if not plain:
                return ""
            ratio = median(ours) / median(plain)
            return "reached" if ratio >= self.ratio else f"{1 - ratio / self.ratio:.0%} short"
        missed = [
            f"{which}{beyond(value, limit)}"
            for which, value, limit, about in (
                ("", median(ours), self.most, self.about),
                ("worst: ", max(ours), self.worst, 0),
            )
            if limit is not None and value > limit * (1 + about)
        ]
        return "; ".join(missed) or "reached"


def beyond(value, limit):
    return f"{value / limit - 1:.0%} over" if limit else f"{number(value)}, not 0"


@dataclass
class Row:
    what: str
    unit: str
    ours: list
    plain: list | None = None
    reach: Reach | None = None
    # What the plain file's figure stands for, where it is not the same thing.
    beside: str = field(default="")

    def ratio(self):
        plain = median(self.plain) if self.plain else 0
        return f"{median(self.ours) / plain:.2f}" if plain else ""

    def got(self):
        return self.reach.got(self.ours, self.plain) if self.reach else ""

    def cells(self):
        plain = f"{figures(self.plain)} {self.beside}".strip() if self.plain else ""
        return [
            self.what, self.unit, plain, figures(self.ours), self.ratio(),
            str(self.reach or ""), self.got(),
        ]  # fmt: skip

    def kept(self):
        """With every single value."""
        return {
            "what": self.what, "unit": self.unit, "ours": self.ours, "plain": self.plain,
            "beside": self.beside, "reach": str(self.reach or ""), "got": self.got(),
        }  # fmt: skip


HEADINGS = ["what", "unit", "plain", "ours", "ratio", "reach", "got"]


def markdown(rows):
    lines = [HEADINGS, ["---"] * len(HEADINGS), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
