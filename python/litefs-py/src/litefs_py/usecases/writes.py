"""Notices what was written on behalf of a request: who sets the cookie asks here, adapters of databases tell.

A context variable holds a set that is shared by all threads and tasks which the request starts: what a
worker thread adds, the request's own task sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_written: ContextVar[set[str] | None] = ContextVar("litefs_py_written", default=None)


@contextmanager
def watching() -> Iterator[set[str]]:
    """The names of the databases that are written within."""
    names: set[str] = set()
    before = _written.set(names)
    try:
        yield names
    finally:
        _written.reset(before)


def begin() -> set[str]:
    """The same for the rest of this context, where no block spans it."""
    names: set[str] = set()
    _written.set(names)
    return names


def wrote(database: str) -> None:
    """A database was written; it may still be rolled back, which only costs a wait for nothing."""
    names = _written.get()
    if names is not None:
        names.add(database)
