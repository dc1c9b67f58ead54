"""Which endpoint is asked, and which next: one plan for the client that waits and the one that awaits.

A *plan* is a generator: it yields what to send where, and is told the answer or that nobody was there.

- What concerns one node (its health, its positions, a barrier on it) goes to the first endpoint only: what
  another one says of itself is no answer.
- What only reads goes on to the next endpoint when one is down, and stays with the one that answered.
- What changes something goes on only while nothing was sent: a second try could do it twice.
- All tries together have one deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

from litefs_py.domain.errors import NodeDown, WaitTimeout

T = TypeVar("T")


class Reach(Enum):
    """Who may answer."""

    THIS_NODE = "the first endpoint"
    ANY_NODE = "the next one if one is down"
    ANY_NODE_ONCE = "the next one if nothing was sent"


@dataclass(frozen=True)
class Call(Generic[T]):
    """A question to a node: the request, and how to read its answer."""

    method: str
    path: str
    read: Callable[[Answer], T]
    reach: Reach = Reach.ANY_NODE
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None
    content: bytes | None = None
    # Seconds that the node itself may take, above what any answer takes.
    patience: float = 0.0


@dataclass(frozen=True)
class Answer:
    """A node's answer."""

    code: int
    body: bytes
    content_type: str = ""


@dataclass(frozen=True)
class Unreached:
    """There was none. `sent`: the request may have arrived."""

    why: str
    sent: bool
    timed_out: bool = False


@dataclass(frozen=True)
class Try:
    """What to send where, and for how long to wait."""

    endpoint: int
    seconds: float


class Endpoints:
    """How many there are, and which answered last."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.last_good = 0

    def plan(
        self, reach: Reach, seconds: float, clock: Callable[[], float]
    ) -> Generator[Try, Answer | Unreached, Answer]:
        """Yields tries; returns the answer, or raises `NodeDown` or `WaitTimeout`."""
        end = clock() + seconds
        order = [0] if reach is Reach.THIS_NODE else self._order()
        problems: list[Unreached] = []
        for turn, endpoint in enumerate(order):
            left = end - clock()
            if left <= 0:
                break
            # A frozen node must leave time for the others.
            share = left / (len(order) - turn) if reach is Reach.ANY_NODE else left
            got = yield Try(endpoint, share)
            if isinstance(got, Answer):
                if reach is not Reach.THIS_NODE:
                    self.last_good = endpoint
                return got
            problems.append(got)
            if got.sent and reach is Reach.ANY_NODE_ONCE:
                break
        said = "; ".join(p.why for p in problems) or "no time was left"
        if problems and all(p.timed_out for p in problems):
            raise WaitTimeout(f"no answer within {seconds:g} s: {said}")
        raise NodeDown(f"no node answers: {said}")

    def _order(self) -> list[int]:
        first = self.last_good
        return [(first + n) % self.number for n in range(self.number)]
