"""What an error of SQLite on the mount means: is the node gone, the majority, or is the outcome open?

SQLite has one word, `disk I/O error` or `database is locked`, for several things. The node knows more, and is
asked once, for as short a time as a health check may take.

With LiteFS as the engine only the primary writes. There a refused write is `disk I/O error` at COMMIT in WAL mode, and
`attempt to write a readonly database` with a rollback journal, or by `PRAGMA query_only`.
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
from litefs_py.domain.sqlite_codes import Code, code_of, could_not_write
from litefs_py.domain.status import Status

# The wall clock may be set back a little meanwhile, seconds.
_CLOCKS = 1.0
_ASKED = {Code.BUSY, Code.IOERR, Code.CANTOPEN, Code.PROTOCOL, Code.CORRUPT}


@dataclass(frozen=True)
class Failure:
    """A statement that failed. `began`: when the statement did, by the wall clock.

    `one_writer`: only the primary may write there. `replica`: this node was none when the transaction began.
    `primary`: who the mount says it is.
    """

    error: sqlite3.Error
    database: str
    committing: bool
    began: float
    one_writer: bool = False
    replica: bool = False
    primary: str | None = None


def needs_status(error: BaseException, one_writer: bool = False) -> bool:
    """Whether asking the node tells more than the error itself."""
    code = code_of(error)
    return code in _ASKED or (one_writer and code is Code.READONLY)


def diagnose(failure: Failure, status: Status | None, stale: bool) -> LitefsError | None:
    """The exception in place of SQLite's; none when SQLite's says all there is.

    `status`: what the node says, none when it does not answer. `stale`: the connection is one of a mount
    that is gone.
    """
    code = code_of(failure.error)
    if failure.one_writer and _was_refused(failure):
        return _not_primary(failure, status)
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
    if failure.one_writer and status.role == "replica":
        # It was primary when this began. LiteFS may have sent the transaction, or not.
        return CommitOutcomeUnknown(
            f"{failure.error}: {status.name} ceased to be primary while {failure.database} committed"
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


def _was_refused(failure: Failure) -> bool:
    """Whether the engine did not let this node write: nothing of the transaction is anywhere."""
    code = code_of(failure.error)
    if code is Code.IOERR:
        # Of what a primary began only a write that was refused is certain: without the frame of its commit, or
        # with the rollback journal still there, a transaction did not happen.
        return (failure.committing and failure.replica) or could_not_write(failure.error)
    return code is Code.READONLY


def _not_primary(failure: Failure, status: Status | None) -> LitefsError | None:
    if status is None:
        return _unasked(failure)
    if status.role == "primary" or status.leader == status.name:
        if code_of(failure.error) is Code.READONLY or failure.replica:
            message = f"{failure.error}: {status.name} has become primary only meanwhile"
            return NotPrimaryError(message, status.name, passed=True)
        # A disk that is full, or broken: SQLite says so.
        return None
    if status.leader is None:
        return QuorumLost(f"{failure.error}: nobody is primary at this moment")
    address = next((m.address for m in status.members if m.name == status.leader), None)
    message = f"{failure.error}: only the primary, {status.leader}, writes {failure.database}"
    return NotPrimaryError(message, status.leader, address)


def _unasked(failure: Failure) -> LitefsError:
    """The node's daemon does not answer, which may be why the write failed."""
    code = code_of(failure.error)
    if code is Code.READONLY or failure.replica:
        who = failure.primary or "another node"
        message = f"{failure.error}: only the primary, {who}, writes {failure.database}"
        return NotPrimaryError(message, failure.primary)
    if code is Code.IOERR and failure.committing:
        return CommitOutcomeUnknown(
            f"{failure.error}: the daemon ended while {failure.database} committed"
        )
    return NodeDown(f"{failure.error}: the node's daemon does not answer")
