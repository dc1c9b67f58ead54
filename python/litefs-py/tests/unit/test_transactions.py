"""Which failures of a transaction are tried again."""

import sqlite3

import pytest
from litefs_py import (
    CommitOutcomeUnknown,
    NodeDown,
    NotPrimaryError,
    QuorumLost,
    run_in_transaction,
)


class Connection:
    def __init__(self, *failures):
        self.failures, self.said = list(failures), []

    def begin(self):
        self.said.append("begin")

    def commit(self):
        self.said.append("commit")
        if self.failures:
            raise self.failures.pop(0)

    def rollback(self):
        self.said.append("rollback")


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def run(connection, **options):
    clock = Clock()
    return run_in_transaction(
        connection, lambda c: len(c.said), clock=clock, sleep=clock.sleep, **options
    )


BUSY = sqlite3.OperationalError("database is locked")


@pytest.mark.parametrize(
    "error", [BUSY, QuorumLost("x"), NodeDown("x"), NotPrimaryError("x", "n1", passed=True)]
)
def test_what_committed_nothing_is_tried_again(error):
    connection = Connection(error, error)
    assert run(connection) == 7
    assert connection.said == ["begin", "commit", "rollback"] * 2 + ["begin", "commit"]


def test_an_unknown_outcome_is_raised_unless_told():
    connection = Connection(CommitOutcomeUnknown("x"))
    with pytest.raises(CommitOutcomeUnknown):
        run(connection)
    assert connection.said == ["begin", "commit", "rollback"]
    assert run(Connection(CommitOutcomeUnknown("x")), retry_unknown=True) == 4


def test_other_errors_are_raised():
    with pytest.raises(sqlite3.IntegrityError):
        run(Connection(sqlite3.IntegrityError("x")))
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        run(Connection(sqlite3.OperationalError("disk I/O error")))
    connection = Connection(NotPrimaryError("x", "n2"))
    with pytest.raises(NotPrimaryError):
        run(connection)
    assert connection.said == ["begin", "commit", "rollback"]


def test_not_for_ever():
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        run(Connection(*[BUSY] * 10_000), timeout=3)


def test_an_interrupt_rolls_back():
    connection = Connection(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(connection)
    assert connection.said[-1] == "rollback"
