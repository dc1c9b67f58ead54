"""SQLite's threadtest3 through the mount: many threads of one process on one database.

Its tests are for torn reads, starved checkpoints, lost schema changes, and the WAL's end under open
readers. As on the plain file system: no errors. And no checkpoint of the daemon's runs into a lock for so long
that SQLite gives it up as a broken protocol, which takes it ten seconds (bounded-answer).
"""

import re
import time

import pytest
from conftest import SLOW, VERSIONS, run_in, same_everywhere

# Of the times in threadtest3: 1 to 60 seconds each.
PERCENT = 60 if SLOW else 5
# These need some time to get to what they are about, on a busy machine too.
AT_LEAST = {"checkpoint_starvation_1": 40}

# Test: seconds it takes in full.
TESTS = {
    "walthread1": 20,
    "walthread2": 20,
    "walthread3": 20,
    "walthread4": 20,
    "walthread5": 1,
    "cgt_pager_1": 0,
    "dynamic_triggers": 20,
    "checkpoint_starvation_1": 10,
    "checkpoint_starvation_2": 10,
    "create_drop_index_1": 10,
    "lookaside1": 10,
    "vacuum1": 10,
    "stress1": 10,
    "stress2": 60,
    "shared1": 10,
}

# What the product refuses: the errors that the test then reports, all of them, and why.
REFUSED = {
    "walthread5": (
        r'Error: \(1\) "Operation not permitted" at line \d+',
        "it copies the database and its WAL as files: only SQLite, which locks first, writes here",
    ),
    "stress2": (
        r'Error: \(5\) "database is locked" at line \d+',
        "one of its threads changes from WAL to DELETE, which is refused; the others did their work",
    ),
}
IN_THE_LONG_ROUND = {"walthread5": "it fills 64 MB; slow: only with LITEFS_PY_SLOW=1"}

CASES = (
    [(test, version) for version in VERSIONS for test in TESTS]
    if SLOW
    else [(test, VERSIONS[number % 3]) for number, test in enumerate(TESTS)]
)


@pytest.mark.parametrize("test,version", CASES, ids=lambda part: part)
def test_without_errors(cluster_for, versions, measured, test, version, tmp_path):
    if test in IN_THE_LONG_ROUND and not SLOW:
        pytest.skip(IN_THE_LONG_ROUND[test])
    cluster = cluster_for("wal")
    program = versions[version].program("threadtest3")

    def run(folder):
        began = time.monotonic()
        percent = max(PERCENT, AT_LEAST.get(test, 0))
        done = run_in(folder, program, test, PERCENT=str(percent), deadline=300)
        return done, time.monotonic() - began

    plain, seconds = run(tmp_path)
    assert plain.code == 0, plain.output[-5000:]
    mount = cluster.leader().mount
    done, longer = run(mount)
    measured(
        f"threadtest3 {test}, SQLite {versions[version].number}: {seconds:.1f} s, {longer:.1f} s"
    )
    for db in [name for name in cluster.leader().databases() if name.startswith("test")]:
        same_everywhere(cluster, db)
    for node in cluster.nodes:
        assert "locking protocol" not in node.log(), f"{node} gave up a checkpoint"
    errors = [line for line in done.output.splitlines() if line.startswith("Error: ")]
    if test in REFUSED:
        expected, why = REFUSED[test]
        assert len(errors) == 1 and re.fullmatch(expected, errors[0]), done.output[-5000:]
        pytest.skip(why)
    assert done.code == 0 and not errors, done.output[-5000:]
