"""SQLite's mptester through the mount: several processes on one database, some of which crash.

On one node as on the plain file system; and with its processes on all three nodes, each of another
version of SQLite. crash01 leaves transactions half-written nine times (no-lost-ack, one-history;
Rules 2 and 8).

What the product refuses is taken out of the scripts here, piece by piece, so that the rest of them
still runs; `REFUSED` says what and why, and that it is refused is tried too. SQLite cannot run the
config scripts in WAL mode either: they change the journal mode while other connections are open.
"""

import itertools
import re
import stat

import pytest
from conftest import SLOW, VERSIONS, content, run_in, same_everywhere
from devcluster import Client, SqlError

REPEAT = "3" if SLOW else "1"
TABLES = ["t1", "t2", "t3", "t4", "t5"]
NO_PAGE_SIZE = "a database's page size is not changed: the way is a copy into a new one"
NO_JOURNAL = "without a journal (MEMORY, OFF) a transaction has no commit point"

# Script: (what is taken out wherever it stands, why).
REFUSED = {
    "config01": [
        ("--task 3\n  PRAGMA journal_mode=MEMORY;\n--end\n", NO_JOURNAL),
        ("--task 4\n  PRAGMA journal_mode=OFF;\n--end\n", NO_JOURNAL),
        ("PRAGMA page_size=8192;\n", NO_PAGE_SIZE),
        ("PRAGMA page_size=16384;\n", NO_PAGE_SIZE),
        ("--match 16384 16384 16384 16384 16384\n", NO_PAGE_SIZE),
    ],
    "config02": [
        *((f"PRAGMA page_size={size};\n", NO_PAGE_SIZE) for size in (512, 1024, 2048, 8192, 16384)),
        *(
            (f"--match {size} {size} {size} {size} {size}\n", NO_PAGE_SIZE)
            for size in (1024, 2048, 8192, 16384)
        ),
    ],
}
WAL = [("crash01", "wal"), ("multiwrite01", "wal")]
ROLLBACK = [("crash01", "delete"), ("multiwrite01", "delete"), ("config01", "delete")]
LONGER = [
    *(("crash01", mode) for mode in ("truncate", "persist")),
    *(("multiwrite01", mode) for mode in ("truncate", "persist")),
    ("config02", "delete"),
]
# In the short round each script runs once, each with another version; crash01 in WAL mode runs across the
# nodes there.
SHORT = [
    (*case, version) for case, version in zip([*WAL, *ROLLBACK][1:], itertools.cycle(VERSIONS))
]
CASES = (
    [(*case, version) for case in WAL + ROLLBACK + LONGER for version in VERSIONS]
    if SLOW
    else SHORT
)


def scripts(source, folder, name):
    """The scripts, copied; and of the named one what is refused taken out."""
    for file in (source / "mptest").glob("*test"):
        (folder / file.name).write_text(file.read_text())
    script = folder / f"{name}.test"
    text = script.read_text()
    for piece, _why in REFUSED.get(name, ()):
        text, found = re.subn(f"^{re.escape(piece)}", "", text, flags=re.MULTILINE)
        assert found, f"{piece!r} is not in {name}"
    script.write_text(text)
    return script


def mptester(program, folder, db, script, journal, **options):
    # The config scripts want a new database: a second time they fail on the plain file system, too.
    repeat = "1" if script.name.startswith("config") else REPEAT
    done = run_in(
        folder, program, db, script, "--journalmode", journal, "--repeat", repeat, deadline=300,
        **options,
    )  # fmt: skip
    summary = done.line("Summary:")
    assert done.code == 0 and " 0 errors " in summary, done.output[-5000:]
    return summary


def rows(path):
    """What the tasks left; the tables by which they are told what to do hold numbers of processes."""
    with Client(path) as client:
        names = [
            name for [name] in client.run("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        return {
            name: client.run(f"SELECT * FROM {name} ORDER BY 1") for name in TABLES if name in names
        }


@pytest.mark.parametrize("script,journal,version", CASES, ids=lambda part: part)
def test_on_one_node(cluster_for, versions, source, script, journal, version, tmp_path):
    cluster = cluster_for(journal)
    program = versions[version].program("mptester")
    path = scripts(source, tmp_path, script)
    db = f"mp-{script}-{journal}-{version}.db"
    expected = mptester(program, tmp_path, db, path, journal)
    mount = cluster.leader().mount
    assert mptester(program, mount, db, path, journal) == expected
    assert rows(mount / db) == rows(tmp_path / db)
    same_everywhere(cluster, db)
    (mount / db).unlink()


@pytest.mark.parametrize(
    "script,journal",
    WAL + [("crash01", "delete"), ("multiwrite01", "delete")] if SLOW else WAL[:1],
    ids=lambda part: part,
)
def test_across_all_nodes(cluster_for, versions, source, script, journal, tmp_path):
    """Each of its five tasks is a process on the next node, of the next version of SQLite. mptester
    starts them by the name that it was called by: here a script that goes there."""
    cluster = cluster_for(journal)
    db = f"spread-{script}-{journal}.db"
    nodes = [node.mount for node in cluster.nodes]
    lines = ["#!/usr/bin/env bash", f"case ${{3}} in # {tmp_path}"]
    for task, mount, version in zip(range(1, 6), itertools.cycle(nodes), itertools.cycle(VERSIONS)):
        program = versions[version].program("mptester")
        lines.append(f'{task}) cd {mount} && exec {program} "$@" ;;')
    start = tmp_path / "start"
    start.write_text("\n".join([*lines, "esac", "exit 70", ""]))
    start.chmod(start.stat().st_mode | stat.S_IXUSR)
    path = scripts(source, tmp_path, script)
    expected = mptester(versions["debian"].program("mptester"), tmp_path, db, path, journal)
    program = versions["newest"].program("mptester")
    found = mptester(program, cluster.leader().mount, db, path, journal, called=start)
    assert found == expected
    left = rows(tmp_path / db)
    for node in cluster.nodes:
        node.barrier()
        assert rows(node.mount / db) == left, node
    same_everywhere(cluster, db)
    (cluster.leader().mount / db).unlink()


@pytest.mark.parametrize("script,piece,why", [
    (name, piece, why) for name, pieces in REFUSED.items() for piece, why in pieces
    if "--match" not in piece
], ids=lambda part: re.sub(r"\W+", "-", part)[:40])  # fmt: skip
def test_what_is_taken_out_is_refused(cluster_for, versions, script, piece, why):
    """Counted as skipped: SQLite's programs do this, and here it cannot be done. A database of these
    statements is refused on the mount, and works beside it."""
    statement = re.search(r"PRAGMA (\w+)=(\w+)", piece)
    cluster = cluster_for("delete")
    db = f"refused-{statement[1]}-{statement[2]}.db"
    node = cluster.leader()
    node.sql(db, "PRAGMA page_size = 4096", "CREATE TABLE IF NOT EXISTS t(x)")
    before = content(node.db(db))
    change = "VACUUM" if statement[1] == "page_size" else "INSERT INTO t VALUES (1)"
    with pytest.raises(SqlError):
        node.sql(db, statement[0], change)
    assert content(node.db(db)) == before
    same_everywhere(cluster, db)
    pytest.skip(f"taken out of {script}: {' '.join(piece.split())}: {why}")
