"""Positions, codes, spelling, and that the types are those of the API's description."""

import dataclasses
import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litefs_py.domain import errors, spelling, sqlite_codes, status
from litefs_py.domain.position import Position, Token

OPENAPI = Path(__file__).parents[4] / "docs/openapi.json"
numbers = st.integers(0, 2**64 - 1)


@given(numbers, numbers)
def test_positions_are_read_as_they_are_written(txid, checksum):
    position = Position(txid, checksum)
    assert Position.parse(str(position)) == position
    assert Position.parse(f"{position}\n") == position


@pytest.mark.parametrize("text", ["", "1/2", "x" * 33, "0" * 16 + "/" + "G" * 16, "0" * 33])
def test_what_is_no_position(text):
    with pytest.raises(ValueError, match="not a position"):
        Position.parse(text)


tokens = st.dictionaries(st.sampled_from("abc"), st.integers(0, 99)).map(Token)


@given(tokens, tokens)
def test_tokens_join_to_the_further(one, other):
    joined = one.joined(other)
    assert joined == other.joined(one)
    assert set(joined) == set(one) | set(other)
    assert all(joined[n] == max(one.get(n, 0), other.get(n, 0)) for n in joined)


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (status.Status, "Status"),
        (status.Member, "MemberStatus"),
        (status.Database, "DatabaseStatus"),
        (status.Indeterminate, "Indeterminate"),
        (status.Quorum, "Quorum"),
        (status.Snapshot, "SnapshotProgress"),
        (status.Imported, "Imported"),
        (status.Checked, "CheckedDatabase"),
    ],
)
def test_fields_are_those_of_the_description(kind, schema):
    described = json.loads(OPENAPI.read_text())["components"]["schemas"][schema]["properties"]
    assert {f.name for f in dataclasses.fields(kind)} == set(described)


def test_a_copy_has_the_fields_of_all_its_states():
    shapes = json.loads(OPENAPI.read_text())["components"]["schemas"]["Copy"]["oneOf"]
    described = {key for shape in shapes for key in shape["properties"]}
    assert {f.name for f in dataclasses.fields(status.Copy)} == described


def test_codes_by_number_and_by_message(tmp_path):
    (tmp_path / "x.db").mkdir()
    with pytest.raises(sqlite3.OperationalError) as caught:
        sqlite3.connect(tmp_path / "x.db")
    assert sqlite_codes.code_of(caught.value) is sqlite_codes.Code.CANTOPEN
    # As Python 3.10 has it: the message alone.
    plain = sqlite3.OperationalError("database is locked")
    assert sqlite_codes.code_of(plain) is sqlite_codes.Code.BUSY
    assert sqlite_codes.code_of(sqlite3.OperationalError("no such table: t")) is None
    assert sqlite_codes.code_of(ValueError("database is locked")) is None


@pytest.mark.parametrize(
    ("statement", "reads"),
    [(" select 1", True), ("PRAGMA x", True), ("PRAGMA foreign_keys = ON", True), ("pragma user_version=5", False),
     ("PRAGMA user_version", True), ("PRAGMA main.application_id(7)", False), ("PRAGMA table_info(t)", True),
     ("PRAGMA incremental_vacuum", False), ("ROLLBACK;", True), ("CREATE TABLE t(a)", False),
     ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", False), ("", False), ("COMMIT", False)],
)  # fmt: skip
def test_what_commits_nothing(statement, reads):
    assert sqlite_codes.is_read(statement) == reads
    # Before what only reads, nobody has to look whether this node may write. A COMMIT is of what began before.
    assert sqlite_codes.may_write(statement) is (not reads and statement != "COMMIT")


def test_the_nearest_word():
    assert spelling.nearest("MUONT", ["MOUNT", "API"]) == "MOUNT"
    assert spelling.nearest("api", ["MOUNT", "API"]) == "API"
    assert spelling.nearest("xyz", ["MOUNT", "API"]) is None
    assert "did you mean MOUNT?" in spelling.unknown("MONT", ["MOUNT", "API"])


def test_who_catches_sqlite_errors_catches_ours():
    for kind in (errors.NodeDown, errors.QuorumLost, errors.NotPrimaryError):
        assert issubclass(kind, sqlite3.OperationalError)
        assert issubclass(kind, errors.LitefsError)
    assert issubclass(errors.CommitOutcomeUnknown, sqlite3.OperationalError)
    assert issubclass(errors.WaitTimeout, TimeoutError)
