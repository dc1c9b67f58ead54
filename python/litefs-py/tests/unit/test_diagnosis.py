"""What an error of SQLite means, given what the node says."""

import dataclasses
import sqlite3

import pytest
from litefs_py.domain.errors import CommitOutcomeUnknown, NodeDown, NotPrimaryError, QuorumLost
from litefs_py.domain.status import Indeterminate, Quorum, Status
from litefs_py.usecases.diagnosis import Failure, diagnose

WELL = Status(
    cluster="c", id=1, name="n1", version="0", uptime_seconds=9, role="replica", raft_role="follower",
    term=1, leader="n2", quorum=Quorum(True, 1), applied_index=1, committed_index=1, lag_ms=0,
    serving=True, not_ready=[], stuck=None, members=[],
)  # fmt: skip
ALONE = dataclasses.replace(WELL, leader=None, quorum=Quorum(False, 5000))
BUSY, IOERR, READONLY = (
    "database is locked",
    "disk I/O error",
    "attempt to write a readonly database",
)
CANTOPEN = "unable to open database file"


def listed(outcome, database="app.db", answered=1000.0):
    entry = Indeterminate("1-2-3", database, int(answered * 1000), outcome)
    return dataclasses.replace(WELL, indeterminate=[entry])


@pytest.mark.parametrize(
    ("message", "committing", "status", "stale", "expected"),
    [
        (BUSY, False, WELL, False, None),
        (BUSY, False, ALONE, False, QuorumLost),
        (BUSY, False, None, False, NodeDown),
        (BUSY, False, WELL, True, NodeDown),
        (BUSY, True, ALONE, False, QuorumLost),
        (CANTOPEN, False, WELL, False, None),
        (CANTOPEN, False, WELL, True, NodeDown),
        (CANTOPEN, False, ALONE, False, None),
        (CANTOPEN, False, dataclasses.replace(WELL, serving=False), False, NodeDown),
        (IOERR, False, WELL, False, None),
        (IOERR, False, None, True, NodeDown),
        (IOERR, True, WELL, False, None),
        (IOERR, True, ALONE, False, QuorumLost),
        (IOERR, True, None, False, CommitOutcomeUnknown),
        (IOERR, True, WELL, True, CommitOutcomeUnknown),
        (IOERR, True, listed("open"), False, CommitOutcomeUnknown),
        (IOERR, True, listed("committed"), False, CommitOutcomeUnknown),
        (IOERR, True, listed("refused"), False, None),
        (IOERR, True, listed("open", database="other.db"), False, None),
        (IOERR, True, listed("open", answered=900), False, None),
        (READONLY, False, None, False, NotPrimaryError),
        ("no such table: t", False, None, True, None),
    ],
)
def test_diagnosis(message, committing, status, stale, expected):
    failure = Failure(sqlite3.OperationalError(message), "app.db", committing, began=999.0)
    found = diagnose(failure, status, stale)
    assert (type(found) if found else None) is expected
    if expected is CommitOutcomeUnknown and status is not None and not stale:
        assert found.transactions == ("1-2-3",)
