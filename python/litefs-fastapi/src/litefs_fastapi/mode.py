"""Whether the request at hand only reads: then its transactions take no write lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_reads: ContextVar[bool] = ContextVar("litefs_fastapi_reads", default=False)


def only_reads() -> bool:
    """False where nothing is known."""
    return _reads.get()


@contextmanager
def reading(yes: bool = True) -> Iterator[None]:
    """Transactions that begin within are DEFERRED."""
    before = _reads.set(yes)
    try:
        yield
    finally:
        _reads.reset(before)
