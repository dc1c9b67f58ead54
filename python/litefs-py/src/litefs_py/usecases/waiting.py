"""Waits until a node shows what a token tells of. The plan is shared by who sleeps and who awaits."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping

from litefs_py.domain.errors import WaitTimeout
from litefs_py.domain.position import Position, Token

# A follower shows a commit within a fraction of a millisecond, mostly.
FIRST_PAUSE = 0.0005
LONGEST_PAUSE = 0.02


def wait_plan(
    token: Mapping[str, int], seconds: float, clock: Callable[[], float]
) -> Generator[tuple[list[str], float], Mapping[str, Position], None]:
    """Yields which databases to look at, and how long to sleep before; is sent their positions."""
    end = clock() + seconds
    missing = dict(token)
    pause = 0.0
    while True:
        positions = yield list(missing), pause
        missing = {
            name: txid
            for name, txid in missing.items()
            if name not in positions or positions[name].txid < txid
        }
        if not missing:
            return
        if clock() >= end:
            raise WaitTimeout(f"not reached within {seconds:g} s: {Token(missing)!r}")
        pause = min(max(pause * 2, FIRST_PAUSE), LONGEST_PAUSE, max(0.0, end - clock()))
