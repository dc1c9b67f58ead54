"""The exceptions, in one tree.

Those that an SQL statement can end with are `sqlite3.OperationalError` as well: a program that catches
that one goes on working.
"""

from __future__ import annotations

import sqlite3


class LitefsError(Exception):
    """The root: whatever this package raises of its own is one."""


class SettingsError(LitefsError, ValueError):
    """A setting is wrong. The message names the key and, for an unknown one, the nearest that there is."""


class BinaryNotFound(LitefsError):
    """There is no `litefs-py` program for this platform here. What needs none goes on working."""


class NodeDown(LitefsError, sqlite3.OperationalError):
    """The node's daemon does not answer, or its mount is not there. Nothing was committed."""


class QuorumLost(LitefsError, sqlite3.OperationalError):
    """There is no leader with a majority behind it, so nobody can write. Nothing was committed."""


class NotPrimaryError(LitefsError, sqlite3.OperationalError):
    """This node must not write. Nothing was committed.

    `primary`: the name of the node that may write, and `address` that of its mesh, where they are known.
    `passed`: this node has become that one meanwhile, so that a second try may go well.
    """

    def __init__(
        self,
        message: str,
        primary: str | None = None,
        address: str | None = None,
        passed: bool = False,
    ) -> None:
        super().__init__(message)
        self.primary, self.address, self.passed = primary, address, passed


# What ends with one of these was not committed: the same request may be sent to another node.
SAFE_TO_REPEAT = (NodeDown, QuorumLost, NotPrimaryError)


class CommitOutcomeUnknown(LitefsError, sqlite3.OperationalError):
    """A COMMIT failed after it was sent to the other nodes: it may have been committed all the same.

    Repeat it only if a second time does no harm. `transactions` are the daemon's names of it, by which
    `/cluster` and the log say what became of it.
    """

    def __init__(self, message: str, transactions: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.transactions = transactions


class WaitTimeout(LitefsError, TimeoutError):
    """What was waited for did not come within its time: a position, a barrier, a node."""


class ApiError(LitefsError):
    """A node answered a request with an error. `code` is that of HTTP."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message


class NotAllowed(ApiError):
    """401 or 403: it needs the token, or the Unix socket."""


class NotFound(ApiError):
    """404: there is none of that name."""


class Conflict(ApiError):
    """409: the name is taken."""


class Refused(ApiError):
    """400, 412 or 422: the request is wrong, or not as things are."""


class Unavailable(ApiError):
    """503: not now, or not within the time."""


def of_code(code: int, message: str) -> ApiError:
    """The class for an HTTP code."""
    kinds: dict[int, type[ApiError]] = {
        400: Refused, 401: NotAllowed, 403: NotAllowed, 404: NotFound,
        409: Conflict, 412: Refused, 422: Refused, 503: Unavailable,
    }  # fmt: skip
    return kinds.get(code, ApiError)(code, message)
