"""make demo: three nodes on this machine, stock SQLite clients, and the leader killed under them.

The data is the Unicode character database, which comes with every Python (module unicodedata).
Ends with an error when an acknowledged row is missing, or a node differs from the others.
"""

import argparse
import sqlite3
import sys
import tempfile
import time
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "cluster"))

from devcluster import LOG_SCHEMA, Cluster, Hung, SqlError, shell, wait_for  # noqa: E402

DB = "unicode.db"
START = time.monotonic()


def say(text=""):
    print(f"{time.monotonic() - START:6.1f} s  {text}", flush=True)


def build(path):
    """A plain SQLite file with all characters that have a name, and an index."""
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE characters(code INTEGER PRIMARY KEY, name TEXT, category TEXT)")
    rows = (
        (code, unicodedata.name(chr(code), None), unicodedata.category(chr(code)))
        for code in range(sys.maxunicode)
    )
    named = (row for row in rows if row[1] and "IDEOGRAPH" not in row[1])
    database.executemany("INSERT INTO characters VALUES (?, ?, ?)", named)
    database.execute("CREATE INDEX by_name ON characters(name)")
    for statement in LOG_SCHEMA:
        database.execute(statement)
    database.commit()
    count = database.execute("SELECT count(*) FROM characters").fetchone()[0]
    database.close()
    return count


def show(cluster):
    """What each node has. They must agree."""
    cluster.settle(DB)
    for node in cluster.running():
        [[characters, log]] = node.sql(
            DB, "SELECT (SELECT count(*) FROM characters), (SELECT count(*) FROM log)"
        )
        role = "primary" if node.is_primary() else "replica"
        say(f"    {node.name}  {role}  {characters} characters  {log:5} rows  {node.position(DB)}")


def play(cluster, folder):
    say("starting three nodes")
    cluster.start()
    leader = cluster.leader()
    for node in cluster.nodes:
        say(f"    {node.name}  {node.mount}  {node.api}{'  <- leads' if node is leader else ''}")

    count = build(folder / "plain.db")
    size = (folder / "plain.db").stat().st_size / 1e6
    first, second = cluster.followers()
    say(f"loading {count} characters ({size:.1f} MB) on {first}:  sqlite3 {DB} '.restore plain.db'")
    shell(first.db(DB), f".restore {folder / 'plain.db'}")
    show(cluster)

    say(f"on {second}, by the sqlite3 shell: an INSERT;  on {leader}, by Python: an UPDATE")
    shell(second.db(DB), "INSERT INTO characters VALUES (1114112, 'CRAB WITH THREE CLAWS', 'So')")
    leader.sql(DB, "UPDATE characters SET name = 'SNAKE ON A RAFT' WHERE name = 'SNAKE'")
    first.barrier()
    question = "SELECT group_concat(name) FROM characters WHERE code IN (1114112, 128013)"
    say(f"on {first}: {shell(first.db(DB), question).stdout.strip()}")

    say(f"applications write on {first} and {second}, as fast as they can")
    with cluster.writing(DB, first, second) as writers:
        wait_for(lambda: all(len(w.acknowledged()) > 200 for w in writers), 30, "the first rows")
        moment = time.time()
        cluster.kill(leader)
        say(f"SIGKILL to {leader}, which led")
        wait_for(lambda: all(w.after(moment) > 200 for w in writers), 30, "rows after the kill")
        gap = max(w.gap(moment) for w in writers)
        say(f"{cluster.leader()} leads; the writers saw a pause of {gap * 1000:.0f} ms, no restart")
        say(f"{leader} comes back")
        cluster.restart(leader)
    failed = sum(len(w.failures()) for w in writers)
    done = sum(len(w.acknowledged()) for w in writers)
    say(f"the writers stop: {done} rows acknowledged, {failed} statements failed")
    show(cluster)

    say("checking: every acknowledged row, integrity, content and position on every node")
    cluster.check_log(DB, writers)
    cluster.same(DB)
    say("all there, all the same")
    return failed


def built():
    """The program as `make demo` builds it, or else as the tests do."""
    builds = [ROOT / "target" / profile / "litefs-py" for profile in ("release", "debug")]
    return next((build for build in builds if build.exists()), None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--program", help="path of litefs-py (default: target/release, else target/debug)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="litefs-py-demo-") as folder:
        cluster = Cluster(Path(folder) / "dev", program=arguments.program or built())
        try:
            failed = play(cluster, Path(folder))
            say("stopping")
            code = cluster.stop()
        except (AssertionError, Hung, SqlError) as problem:
            say(f"FAILED: {problem}")
            return 1
        finally:
            left = cluster.leftovers()
            cluster.clear()
    say(f"left behind: {left}" if left else "no process and no mount is left")
    return 1 if failed or code or left else 0


if __name__ == "__main__":
    sys.exit(main())
