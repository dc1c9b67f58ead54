"""The exceptions of litefs_py, as Django's `OperationalError`: either name catches them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import litefs_py
from django.db.utils import OperationalError
from litefs_py import LitefsError


class NodeDown(litefs_py.NodeDown, OperationalError):
    """The node's daemon does not answer, or its mount is not there. Nothing was committed."""


class QuorumLost(litefs_py.QuorumLost, OperationalError):
    """There is no leader with a majority behind it. Nothing was committed."""


class NotPrimaryError(litefs_py.NotPrimaryError, OperationalError):
    """This node must not write. Nothing was committed."""


class CommitOutcomeUnknown(litefs_py.CommitOutcomeUnknown, OperationalError):
    """A COMMIT failed that may have been committed all the same."""


def of_django(error: LitefsError) -> LitefsError:
    """The same error as one that Django knows."""
    if isinstance(error, litefs_py.CommitOutcomeUnknown):
        return CommitOutcomeUnknown(str(error), error.transactions)
    if isinstance(error, litefs_py.NotPrimaryError):
        return NotPrimaryError(str(error), error.primary, error.address, error.passed)
    for kind in (NodeDown, QuorumLost):
        if isinstance(error, kind.__bases__[0]):
            return kind(str(error))
    return error


_seen: ContextVar[list[LitefsError] | None] = ContextVar("litefs_django_errors", default=None)


@contextmanager
def watching() -> Iterator[list[LitefsError]]:
    """What is raised within, in this context and those made of it: others may put their own in its place."""
    found: list[LitefsError] = []
    before = _seen.set(found)
    try:
        yield found
    finally:
        _seen.reset(before)


def raised(error: LitefsError) -> LitefsError:
    """Tells who watches."""
    found = _seen.get()
    if found is not None:
        found.append(error)
    return error
