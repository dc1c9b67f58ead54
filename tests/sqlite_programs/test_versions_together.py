"""Three versions of SQLite at once, each on all three nodes, on one database.

Applications bring their own SQLite. Each client counts a row into a table and into a counter in one
transaction, looks whether both agree, and checkpoints in every mode; each version has its own way with
the WAL, the wal-index and its checkpoints. one-history, no-lost-ack; Rules 2 to 4, and the turns that
checkpoints and writers take for versions with the WAL-reset bug (3.7.0 to 3.51.2).
"""

import subprocess

import pytest
from conftest import SLOW, die_with_parent, run_in, same_everywhere

# Of each of nine clients.
COUNT = 300 if SLOW else 60
MODES = ["wal", "delete", "truncate", "persist"] if SLOW else ["wal", "delete"]


def number(text):
    return tuple(map(int, text.split(".")))


def test_there_are_three_versions(versions):
    """Debian's, a newer one, and one from before 3.35."""
    old, debian, newest = (number(versions[name].number) for name in ("old", "debian", "newest"))
    assert old < (3, 35) and old < debian < newest


@pytest.mark.parametrize("journal", MODES)
def test_all_at_once(cluster_for, versions, journal):
    cluster = cluster_for(journal)
    db = f"together-{journal}.db"
    cluster.create(
        db,
        f"PRAGMA journal_mode = {journal}",
        "CREATE TABLE log(who TEXT, k INTEGER, pad BLOB, PRIMARY KEY(who, k))",
        "CREATE TABLE counter(n INTEGER)",
        "INSERT INTO counter VALUES (0)",
        "CREATE TRIGGER t AFTER INSERT ON log BEGIN UPDATE counter SET n = n + 1; END",
    )
    clients = {}
    try:
        for node in cluster.nodes:
            for name, version in versions.items():
                who = f"{node.name}-{name}"
                clients[who] = subprocess.Popen(
                    [version.program("client"), "write", node.db(db), who, str(COUNT), journal],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    text=True,
                    preexec_fn=die_with_parent,
                )
        for who, client in clients.items():
            output, _ = client.communicate(timeout=1200 if SLOW else 180)
            assert client.returncode == 0, f"{who}: {output}"
    finally:
        for client in clients.values():
            client.kill()
            client.wait(30)
    cluster.settle(db)
    wanted = ["ok", str(COUNT * len(clients))]
    wanted += [
        f"{who} {COUNT} {COUNT * (COUNT + 1) // 2} {sum(50 + k * 37 % 3000 for k in range(1, COUNT + 1))}"
        for who in sorted(clients)
    ]
    for node in cluster.nodes:
        for version in versions.values():
            done = run_in("/", version.program("client"), "check", node.db(db))
            assert done.output.splitlines() == wanted, f"{node} by SQLite {version.number}"
    same_everywhere(cluster, db)
