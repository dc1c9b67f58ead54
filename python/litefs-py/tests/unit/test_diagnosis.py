"""What an error of SQLite means, given what the node says."""

import dataclasses
import sqlite3

import pytest
from litefs_py.domain.errors import CommitOutcomeUnknown, NodeDown, NotPrimaryError, QuorumLost
from litefs_py.domain.status import Indeterminate, Member, Quorum, Status
from litefs_py.usecases.diagnosis import Failure, diagnose, needs_status

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


# LiteFS as the engine

REPLICA = dataclasses.replace(WELL, members=[Member(2, "n2", "10.0.0.2:4321", "leader", True)])
PRIMARY = dataclasses.replace(WELL, role="primary", leader="n1")
PROMOTED = dataclasses.replace(WELL, role="replica", leader="n1")
NOBODY = dataclasses.replace(WELL, leader=None)
WRITE, SYNC = 10 | 3 << 8, 10 | 4 << 8


def failed(message, extended=None, **more):
    error = sqlite3.OperationalError(message)
    if extended is not None:
        error.sqlite_errorcode = extended
    return Failure(error, "app.db", began=999.0, one_writer=True, **more)


@pytest.mark.parametrize(
    ("failure", "status", "expected"),
    [
        (failed(READONLY, committing=False), REPLICA, NotPrimaryError),
        (failed(READONLY, committing=False), None, NotPrimaryError),
        (failed(READONLY, committing=False), NOBODY, QuorumLost),
        (failed(IOERR, WRITE, committing=True), REPLICA, NotPrimaryError),
        (failed(IOERR, WRITE, committing=True), NOBODY, QuorumLost),
        (failed(IOERR, WRITE, committing=False), REPLICA, NotPrimaryError),
        (failed(IOERR, committing=True, replica=True), REPLICA, NotPrimaryError),
        (failed(IOERR, committing=True, replica=True), None, NotPrimaryError),
        # It began on a primary, and SQLite does not say that the write was refused: it may have happened.
        (failed(IOERR, committing=True), REPLICA, CommitOutcomeUnknown),
        (failed(IOERR, SYNC, committing=True), REPLICA, CommitOutcomeUnknown),
        (failed(IOERR, SYNC, committing=True), NOBODY, CommitOutcomeUnknown),
        (failed(IOERR, WRITE, committing=True), None, CommitOutcomeUnknown),
        # A disk that is broken.
        (failed(IOERR, WRITE, committing=True), PRIMARY, None),
        (failed(IOERR, SYNC, committing=True), PRIMARY, None),
        (failed(IOERR, committing=False), REPLICA, None),
        (failed(CANTOPEN, committing=False), None, NodeDown),
        (failed(CANTOPEN, committing=False), REPLICA, None),
        (failed(BUSY, committing=False), REPLICA, None),
        (failed("no such table: t", committing=False), REPLICA, None),
    ],
)
def test_where_only_the_primary_writes(failure, status, expected):
    found = diagnose(failure, status, False)
    assert (type(found) if found else None) is expected
    if expected is NotPrimaryError and status is REPLICA:
        assert (found.primary, found.address, found.passed) == ("n2", "10.0.0.2:4321", False)


@pytest.mark.parametrize("status", [PRIMARY, PROMOTED])
def test_who_became_primary_meanwhile_may_try_again(status):
    found = diagnose(failed(READONLY, committing=False, replica=True), status, False)
    assert isinstance(found, NotPrimaryError)
    assert found.passed


def test_without_an_answer_the_mount_says_who_is_primary():
    found = diagnose(failed(READONLY, committing=False, primary="n3"), None, False)
    assert (found.primary, found.passed) == ("n3", False)


def test_a_readonly_database_is_asked_about_only_there():
    error = sqlite3.OperationalError(READONLY)
    assert needs_status(error, one_writer=True)
    assert not needs_status(error)
