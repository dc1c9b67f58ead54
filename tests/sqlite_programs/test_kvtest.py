"""SQLite's kvtest through the mount: BLOBs written, read and replaced, by SQL and by the BLOB API.

What it fills in is random, so compared are its statistics, all but the times: sizes, pages, the free
list, its own integrity check, and how many bytes it read.
"""

import pytest
from conftest import SLOW, run_in, same_everywhere

COUNT = 3000 if SLOW else 100
RUNS = [
    ["--random", "--blob-api"],
    ["--asc", "--mmap", "100000000"],
    ["--random", "--update", "--multitrans"],
    ["--desc", "--update", "--nosync", "--integrity-check"],
]


@pytest.mark.parametrize("journal", ["wal", "delete", "persist"] if SLOW else ["wal", "delete"])
def test_the_same_statistics(cluster_for, sqlite, journal, tmp_path):
    cluster = cluster_for(journal)
    db = f"kv-{sqlite.name}-{journal}.db"

    def kvtest(path, command, *options):
        done = run_in(path.parent, sqlite.program("kvtest"), command, path.name, *options)
        assert done.code == 0, done.output
        return [line for line in done.output.splitlines() if not is_a_time(line)]

    def use(path):
        told = [kvtest(path, "init", "--count", str(COUNT), "--size", "6000", "--pagesize", "1024")]
        for options in RUNS:
            told.append(kvtest(path, "run", "--count", str(COUNT), "--jmode", journal, *options))
        told.append(kvtest(path, "stat"))
        return told + [kvtest(path, "stat", "--vacuum")]

    plain, mount = tmp_path / db, cluster.followers()[0].mount / db
    expected, found = use(plain), use(mount)
    assert found == expected
    assert any(line.startswith("Integrity-check:    ok") for line in found[-1])
    same_everywhere(cluster, db)
    mount.unlink()


def is_a_time(line):
    return line.startswith(("Total elapsed time", "Microseconds per", "Content ")) or "MB/s" in line
