"""A function as one transaction, repeated as long as that is safe."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from litefs_py.domain.errors import (
    CommitOutcomeUnknown,
    NodeDown,
    NotPrimaryError,
    QuorumLost,
)
from litefs_py.domain.sqlite_codes import Code, code_of

T = TypeVar("T")
C = TypeVar("C", bound="Transactional")

_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.25


class Transactional(Protocol):
    """What a connection has to offer. `begin` reopens it when its mount is of before a restart."""

    def begin(self) -> None:
        """BEGIN IMMEDIATE."""

    def commit(self) -> None:
        """COMMIT."""

    def rollback(self) -> None:
        """ROLLBACK; nothing where there is no transaction."""


def run_in_transaction(
    connection: C,
    work: Callable[[C], T],
    *,
    timeout: float = 30.0,
    retry_unknown: bool = False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """What `work(connection)` returns, committed.

    All of it is done again while the database is busy, while there is no leader, and while the node's daemon
    starts anew, for at most `timeout` seconds: in each of these nothing was committed. A COMMIT whose outcome
    is unknown is raised, unless `retry_unknown` says that a second time does no harm. So is `NotPrimaryError`,
    unless this node has become primary meanwhile: another try here would end the same way.
    """
    end = clock() + timeout
    pause = _FIRST_PAUSE
    while True:
        try:
            return _once(connection, work)
        except Exception as error:
            if not _again(error, retry_unknown) or clock() + pause > end:
                raise
        sleep(pause * random.uniform(0.5, 1.0))
        pause = min(pause * 2, _LONGEST_PAUSE)


def _once(connection: C, work: Callable[[C], T]) -> T:
    connection.begin()
    try:
        result = work(connection)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return result


def _again(error: Exception, retry_unknown: bool) -> bool:
    if isinstance(error, CommitOutcomeUnknown):
        return retry_unknown
    if isinstance(error, NotPrimaryError):
        return error.passed
    return isinstance(error, (NodeDown, QuorumLost)) or code_of(error) is Code.BUSY
