"""How transactions begin. By default IMMEDIATE: with the write lock of the whole cluster, on the latest state.

What only reads needs none of that:

    with deferred():
        with transaction.atomic():
            …one snapshot for several queries…
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_mode: ContextVar[str | None] = ContextVar("litefs_django_mode", default=None)


def mode_of_this_context() -> str | None:
    """None: as the settings say."""
    return _mode.get()


@contextmanager
def deferred() -> Iterator[None]:
    """Transactions that begin within take no write lock. A context manager, and a decorator."""
    before = _mode.set("DEFERRED")
    try:
        yield
    finally:
        _mode.reset(before)
