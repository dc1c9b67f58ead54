#!/usr/bin/env python3
"""Makes tests/fixtures/data-folder-v1 anew: a node's data folder as the first version left it.

    cargo build && python3 tests/record/data_folder.py

Needs root and /dev/fuse. One node with a WAL and a rollback database, each with rows in its file and
later ones only in the log, since the node was killed; the log was purged once, behind a state file,
and names a staged transaction. No certificates and no configuration: the test brings its own.

Only a new format of what is on disk is a reason to run it, and then into a folder of a new name:
what is there must stay readable.
"""

import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "cluster"))

from devcluster import Cluster, wait_for  # noqa: E402

OUT = HERE.parent / "fixtures" / "data-folder-v1"
SETTINGS = {"journal: wal": "journal: any", "log_purge_bytes: 64MiB": "log_purge_bytes: 1MiB"}
MODES = {"wal.db": "wal", "rollback.db": "delete"}
# A page of it cannot be compressed, many equal ones can: a long log in a small archive.
BLOB = os.urandom(3500).hex()
FILL = f"INSERT INTO filler SELECT x'{BLOB}' FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT :n) SELECT n FROM c)"
# What the test asks of each database.
QUESTIONS = [
    "SELECT id, word FROM t ORDER BY id",
    "SELECT count(*), count(DISTINCT x), sum(length(x)), hex(substr(min(x), 1, 8)) FROM filler",
    "PRAGMA journal_mode",
    "PRAGMA integrity_check",
]


def rows(node, name, first, last):
    with node.client(name) as client:
        for number in range(first, last):
            client.run("INSERT INTO t VALUES (?, ?)", number, f"{name} {number * number}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder) / "dev", nodes=1, settings=SETTINGS)
        try:
            (node,) = cluster.start().nodes
            fill(cluster, node)
        finally:
            cluster.stop()
            cluster.clear()


def fill(cluster, node):
    for name, mode in MODES.items():
        create = ["CREATE TABLE t(id INTEGER PRIMARY KEY, word TEXT)", "CREATE TABLE filler(x)"]
        node.sql(name, f"PRAGMA journal_mode = {mode}", *create)
        rows(node, name, 0, 50)
        for _ in range(3):
            node.sql(name, FILL.replace(":n", "100"))
    wait_for((node.folder / "data" / "raft" / "state").exists, 30, "a purge of the log")
    # Beside the log, as a file.
    node.sql("wal.db", FILL.replace(":n", "350"))
    cluster.restart(node)
    for name in MODES:
        rows(node, name, 50, 100)
    told = {name: [node.sql(name, question) for question in QUESTIONS] for name in MODES}
    cluster.kill(node)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "expected.json").write_text(json.dumps(told, indent=0) + "\n")
    with tarfile.open(OUT / "data.tar.xz", "w:xz") as archive:
        archive.add(node.folder / "data", "data", filter=anonymous)


def anonymous(member):
    """Nobody's, and not what a running process alone has."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return None if member.name == "data/lock" else member


if __name__ == "__main__":
    main()
