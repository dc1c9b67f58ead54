"""What an error of SQLite on the mount means: is the node gone, the majority, or is the outcome open?

SQLite has one word, `disk I/O error` or `database is locked`, for several things. The node knows more, and is
asked once, for as short a time as a health check may take.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from litefs_py.domain.errors import (
    CommitOutcomeUnknown,
    LitefsError,
    NodeDown,
    NotPrimaryError,
    QuorumLost,
)
from litefs_py.domain.sqlite_codes import Code, code_of
from litefs_py.domain.status import Status

# The wall clock may be set back a little meanwhile, seconds.
_CLOCKS = 1.0
_ASKED = {Code.BUSY, Code.IOERR, Code.CANTOPEN, Code.PROTOCOL, Code.CORRUPT}


@dataclass(frozen=True)
class Failure:
    """A statement that failed. `began`: when the statement did, by the wall clock."""

    error: sqlite3.Error
    database: str
    committing: bool
    began: float


def needs_status(error: BaseException) -> bool:
    """Whether asking the node tells more than the error itself."""
    return code_of(error) in _ASKED


def diagnose(failure: Failure, status: Status | None, stale: bool) -> LitefsError | None:
    """The exception in place of SQLite's; none when SQLite's says all there is.

    `status`: what the node says, none when it does not answer. `stale`: the connection is one of a mount
    that is gone.
    """
    code = code_of(failure.error)
    if code is Code.READONLY:
        return NotPrimaryError(f"{failure.error}: this node must not write {failure.database}")
    if code not in _ASKED:
        return None
    if failure.committing and code is Code.IOERR:
        return _of_commit(failure, status, stale)
    if status is None or not status.serving:
        return NodeDown(f"{failure.error}: the node's daemon does not answer")
    if stale:
        return NodeDown(f"{failure.error}: the daemon was restarted; this connection is of before")
    if code in (Code.BUSY, Code.IOERR) and not status.can_write:
        return QuorumLost(f"{failure.error}: there is no leader with a majority")
    return None


def _of_commit(failure: Failure, status: Status | None, stale: bool) -> LitefsError | None:
    if status is None or stale:
        return CommitOutcomeUnknown(
            f"{failure.error}: the daemon ended while {failure.database} committed"
        )
    since = (failure.began - _CLOCKS) * 1000
    listed = [
        entry
        for entry in status.indeterminate
        if entry.database == failure.database
        and entry.answered_ms >= since
        and entry.outcome != "refused"
    ]
    if listed:
        names = tuple(entry.transaction for entry in listed)
        return CommitOutcomeUnknown(
            f"{failure.error}: {failure.database} may have been committed all the same "
            f"({', '.join(names)})",
            names,
        )
    if not status.can_write:
        return QuorumLost(f"{failure.error}: there is no leader with a majority; rolled back")
    return None
