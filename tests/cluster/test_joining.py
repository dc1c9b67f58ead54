"""A node that joins, or was away for long, gets whole databases while others write: shown, resumed after a
break, and only the pages that it lacks."""

import re
import signal

import pytest
from cluster_fixtures import PROGRAM
from devcluster import LOG_SCHEMA, Writer, wait_for
from machines import Machine, taken_down, token

DB = "big.db"
MIB = 1 << 20
# The log is given up soon, so that a node needs the database itself.
SHORT_LOG = ["log_purge_bytes: 1MiB"]
CAME = re.compile(
    r"a database came from another node.* bytes=(\d+) there_before=(\d+)|"
    r"bytes=(\d+) there_before=(\d+).*a database came from another node"
)


def grow(machine, mib):
    """Rows of a MiB each."""
    rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8) "
    for _ in range(mib // 8):
        machine.sql(DB, f"{rows} INSERT INTO big SELECT randomblob({MIB}) FROM n")


def came(machine):
    """(bytes, those that were there before) of each database that came."""
    found = CAME.findall(machine.log())
    return [(int(a or c), int(b or d)) for a, b, c, d in found]


def coming(machine):
    """What it says of the database that it receives."""
    code, status = machine.ask("/cluster")
    found = status["snapshots"] if code == 200 else []
    return next((one for one in found if one["stage"] == "receiving"), None)


def log_bytes(machine):
    metrics = machine.ask("/metrics")[1]
    return float(re.search(r"^litefs_py_log_bytes(?:{.*})? (\S+)", metrics, re.M)[1])


def same(first, second):
    wait_for(lambda: first.position(DB) == second.position(DB), 60, "the same position")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    made = []
    with taken_down(made):
        first = Machine(tmp_path_factory.mktemp("joining"), "n1", PROGRAM)
        made.append(first.init(raft=SHORT_LOG).start())
        first.sql(DB, "PRAGMA journal_mode = wal", "CREATE TABLE big(x)", *LOG_SCHEMA)
        grow(first, 240)
        second = Machine(tmp_path_factory.mktemp("joining"), "n2", PROGRAM)
        made.append(second)
        yield first, second


def test_a_new_node_gets_its_database_shown_and_resumed(pair, tmp_path):
    """converges: what came before it was killed is not sent again; nobody waits meanwhile."""
    first, second = pair
    writer = Writer(first.db(DB), "w", tmp_path / "log")
    assert second.join(token(first), first, raft=SHORT_LOG).returncode == 0
    second.start(ready=False)

    def some():
        now = coming(second) if second.process.poll() is None else None
        return now if now and now["done"] > 20 * MIB else None

    now = wait_for(some, 60, "a part of the database")
    second.stop(signal.SIGKILL)
    assert now["bytes"] > 240 * MIB and now["node"] == "n1" and now["database"] == DB
    assert now["there_before"] < 10 * MIB
    assert came(second) == []

    second.start()
    of, before = wait_for(lambda: came(second), 60, "the database")[-1]
    assert of > 240 * MIB and before > 15 * MIB, (of, before)
    done = len(writer.acknowledged())
    wait_for(lambda: len(writer.acknowledged()) > done + 20, 30, "more rows")
    writer.stop()
    assert writer.failures() == []
    rows = writer.acknowledged()
    same(first, second)
    there = {k for (k,) in second.sql(DB, "SELECT k FROM log WHERE who = 'w'")}
    assert rows <= there
    assert second.content(DB) == first.content(DB)


def test_a_node_that_was_away_gets_only_the_pages_that_differ(pair):
    """The log does not reach back any more, and most of the database is here."""
    first, second = pair
    wait_for(lambda: first.members().get("n2") == "voter", 60, "n2 to vote")
    # Alone the first goes on.
    assert first.ask_cli("member", "demote", "n2").returncode == 0
    before = len(came(second))
    second.stop()
    for _ in range(10):
        first.sql(DB, f"UPDATE big SET x = randomblob({MIB}) WHERE rowid IN (5, 6)")
    # For a node that is away up to eight times that size stays: less than came since.
    wait_for(lambda: log_bytes(first) < 18 * MIB, 30, "the log to be purged")
    second.start()
    same(first, second)
    found = came(second)[before:]
    assert found, "the log still reached back"
    of, there = found[-1]
    assert 230 * MIB < there < of, found
    assert second.content(DB) == first.content(DB)
