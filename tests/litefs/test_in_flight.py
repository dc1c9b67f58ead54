"""A commit that SQLite had answered, and LiteFS had not come to when it ended: only the WAL has it."""

import shutil
import sqlite3
from contextlib import closing

from litefs_cluster import now


def commit_in_flight(node, db, folder, who):
    """What an application's SQLite leaves in the WAL of a node on which nothing runs."""
    files = node.folder / "data/litefs/dbs" / db
    copy = folder / f"{who}.db"
    shutil.copy(files / "database", copy)
    shutil.copy(files / "wal", f"{copy}-wal")
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("INSERT INTO log VALUES (?, 1)", (who,))
        # Not after the connection is closed: SQLite checkpoints then.
        shutil.copy(f"{copy}-wal", files / "wal")


def stop_beneath_an_application(cluster, db, log, nodes):
    """Nodes end at once while an application writes; so there is a WAL."""
    with cluster.roving(db, log) as rover:
        rover.wrote(now())
        leader = cluster.leader()
        for node in nodes(leader):
            cluster.kill(node)
    return leader


def who_wrote(node, db):
    return {who for (who,) in node.sql(db, "SELECT DISTINCT who FROM log")}


def test_it_is_there_after_all_nodes_were_lost(cluster, db, tmp_path):
    """nothing-discarded: LiteFS alone would cut it off."""
    leader = stop_beneath_an_application(cluster, db, tmp_path / "log", lambda _: cluster.nodes)
    commit_in_flight(leader, db, tmp_path, "in flight")
    cluster.stop()
    cluster.start()
    cluster.same(db)
    assert "in flight" in who_wrote(cluster.leader(), db)
    assert "finished the commit that LiteFS had answered" in leader.log()


def test_it_is_set_aside_where_another_took_over(cluster, db, tmp_path):
    """nothing-discarded, one-history."""
    leader = stop_beneath_an_application(cluster, db, tmp_path / "log", lambda leader: [leader])
    commit_in_flight(leader, db, tmp_path, "in flight")
    cluster.write(db, "INSERT INTO log VALUES ('elsewhere', 1)")
    cluster.restart(leader)
    cluster.same(db)
    assert "elsewhere" in who_wrote(leader, db) and "in flight" not in who_wrote(leader, db)
    kept = [kept for kept in leader.by_socket("/diverged")[1] if kept["id"].startswith(db)]
    assert len(kept) == 1, kept
    out, config = tmp_path / "kept.db", leader.folder / "config.yml"
    cluster.command("diverged", "export", "--config", config, kept[0]["id"], out)
    with closing(sqlite3.connect(out)) as connection:
        found = connection.execute("SELECT count(*) FROM log WHERE who = 'in flight'").fetchone()
    assert found == (1,)


def test_a_litefs_that_is_killed_loses_nothing(cluster, db, tmp_path):
    """nothing-discarded: its own node starts it again, and has the most."""
    with cluster.roving(db, tmp_path / "log") as rover:
        for _ in cluster.litefs_killed(rover, 6):
            pass
    cluster.same(db)
    there = {k for (k,) in cluster.leader().sql(db, "SELECT k FROM log")}
    assert not rover.acknowledged() - there
