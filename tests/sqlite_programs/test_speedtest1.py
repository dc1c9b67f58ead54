"""SQLite's speedtest1 through the mount: the same answers to thousands of queries, and the same rows.

one-history, converges. With --verify it hashes all that its queries return; afterwards the database
has to hold the same on all nodes, and the same as the one on the plain file system.
"""

import re

import pytest
from conftest import SLOW, run_in, same_everywhere

SIZE = "25" if SLOW else "2"

# Name, journal mode, options.
CASES = [
    ("wal", "wal", []),
    ("mapped", "wal", ["--mmap", "100000000"]),
    ("delete", "delete", []),
]
MORE = [
    ("autovacuum", "wal", ["--autovacuum"]),
    ("small-pages", "wal", ["--pagesize", "512"]),
    ("large-pages", "wal", ["--pagesize", "65536"]),
    ("small-cache", "wal", ["--cachesize", "20"]),
    ("without-rowid", "wal", ["--without-rowid"]),
    ("utf16", "wal", ["--utf16be"]),
    ("reprepare", "wal", ["--reprepare", "--shrink-memory"]),
    ("truncate", "truncate", []),
    ("persist", "persist", ["--incrvacuum"]),
    ("mapped-delete", "delete", ["--mmap", "100000000", "--cachesize", "20"]),
]
# Of its test sets, one after the other: together, and "trigger" by itself, it stumbles
# over its own tables, on any file system.
SETS = ["main", "orm", "fp", "cte"]


@pytest.mark.parametrize("case", CASES + MORE if SLOW else CASES, ids=lambda case: case[0])
def test_the_same_answers(cluster_for, sqlite, case, tmp_path):
    name, journal, options = case
    cluster = cluster_for(journal)
    db = f"speed-{sqlite.name}-{name}.db"

    def run(path, which):
        arguments = ["--size", SIZE, "--verify", "--testset", which, "--journal", journal, *options]
        done = run_in(
            path.parent, sqlite.program("speedtest1"), *arguments, path.name, deadline=400
        )
        assert done.code == 0, done.output
        assert sqlite.number in done.output
        return done

    plain, mount = tmp_path / db, cluster.followers()[0].mount / db
    for which in SETS if SLOW or name == "wal" else SETS[:1]:
        expected, found = run(plain, which), run(mount, which)
        assert without_times(found) == without_times(expected)
        assert found.line("Verification Hash") == expected.line("Verification Hash")
        if plain.stat().st_size > 0:
            same_everywhere(cluster, db, plain)
        else:  # "cte" only reads: what it leaves is an empty file, which no other node hears of.
            assert mount.stat().st_size == 0
    mount.unlink()


def without_times(done):
    return [re.sub(r"\.*\s+[\d.]+s$", "", line) for line in done.output.splitlines()]
