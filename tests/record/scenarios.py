"""What SQLite is made to do to a.db, one function a fixture. Content is fixed, and mostly small:
the fixtures are kept. Run by record.py, under strace, in an empty folder."""

import os
import signal
import sqlite3
import sys

ALL = {}


def scenario(function):
    ALL[function.__name__] = function
    return function


def connect(path="a.db", page_size=512, **settings):
    db = sqlite3.connect(path, isolation_level=None, uri=path.startswith("file:"))
    db.execute(f"PRAGMA page_size={page_size}")
    for key, value in settings.items():
        db.execute(f"PRAGMA {key}={value}").fetchall()
    return db


def rows(db, count, size=100, table="t"):
    for n in range(count):
        db.execute(f"INSERT INTO {table}(x) VALUES(?)", (f"{n:06}" * (size // 6),))


def table(db):
    db.execute("CREATE TABLE t(i INTEGER PRIMARY KEY, x)")


def transaction(db, work, end="COMMIT"):
    db.execute("BEGIN IMMEDIATE")
    work()
    db.execute(end)


def killed(work):
    """Runs in a process that is killed before `work` returns or its connections close."""
    child = os.fork()
    if child == 0:
        work()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def in_child(work):
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    os.waitpid(child, 0)


# --- WAL -----------------------------------------------------------------------------------------


def wal_of_page_size(size):
    db = connect(page_size=size, journal_mode="wal", wal_autocheckpoint=12)
    table(db)
    for n in range(8):
        transaction(db, lambda: rows(db, 3 + n, 60))
        db.execute("DELETE FROM t WHERE i % 4 = 0")
    db.close()


@scenario
def wal_512():
    wal_of_page_size(512)


@scenario
def wal_4096():
    wal_of_page_size(4096)


@scenario
def wal_65536():
    wal_of_page_size(65536)


@scenario
def wal_restart():
    """Restarts by header writes within a hold, truncations, and the last close in between."""
    for mode in ["PASSIVE", "RESTART", "TRUNCATE"]:
        db = connect(journal_mode="wal", wal_autocheckpoint=0)
        db.execute("CREATE TABLE IF NOT EXISTS t(i INTEGER PRIMARY KEY, x)")
        for n in range(4):
            transaction(db, lambda: rows(db, 12 - 3 * n))
            db.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
            rows(db, 2)
        db.close()


@scenario
def wal_spill():
    """Frames with salts zero, headers rewritten at the end; also in a restarted WAL."""
    db = connect(journal_mode="wal", cache_size=4, wal_autocheckpoint=0)
    table(db)
    rows(db, 1)
    for n in range(4):

        def work():
            rows(db, 40)
            db.execute("UPDATE t SET x = x || 'b'")
            db.execute("UPDATE t SET x = substr(x, 1, 90) WHERE i % 2")

        transaction(db, work)
        if n % 2:
            db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    transaction(db, work, "ROLLBACK")
    rows(db, 2)
    db.close()


@scenario
def wal_savepoint_forgotten():
    """SQLite before 3.54 commits these without ever writing the salts of their frames: what was
    spilled a second time was rolled back with the savepoint."""
    db = connect(journal_mode="wal", cache_size=4, wal_autocheckpoint=0)
    table(db)
    rows(db, 60)
    for n in range(6):
        db.execute("BEGIN IMMEDIATE")
        if n % 2:
            db.execute("UPDATE t SET x = 'd' || x WHERE i = 1")
        db.execute("SAVEPOINT s")
        db.execute("UPDATE t SET x = upper(x) || i")
        db.execute("UPDATE t SET x = x || 'a' WHERE i > 50")
        db.execute("ROLLBACK TO s")
        db.execute("UPDATE t SET x = x || 'b' WHERE i < ?", (n,))
        rows(db, 1 + n)
        db.execute("COMMIT")
        # From the wal-index; a recovery would not find it.
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        rows(db, 2)
    db.close()


@scenario
def wal_savepoint():
    """Savepoints rolled back after a spill; the frames after them are written again."""
    db = connect(journal_mode="wal", cache_size=4, wal_autocheckpoint=0)
    table(db)
    rows(db, 30)
    for n in range(5):
        db.execute("BEGIN IMMEDIATE")
        rows(db, 20)
        db.execute("SAVEPOINT s")
        rows(db, 30)
        db.execute("UPDATE t SET x = upper(x) || i")
        db.execute("ROLLBACK TO s")
        if n % 2:
            db.execute("UPDATE t SET x = x || 'a' WHERE i % 3 = 0")
            rows(db, 20)
            db.execute("SAVEPOINT s2")
            db.execute("UPDATE t SET x = 'c' || x")
            db.execute("ROLLBACK TO s2")
        rows(db, n)
        db.execute("COMMIT")
        if n == 2:
            # Rolled back to the very start of a WAL begun in the same hold.
            db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
            db.execute("BEGIN IMMEDIATE")
            db.execute("SAVEPOINT s")
            db.execute("UPDATE t SET x = x || 'a'")
            db.execute("ROLLBACK TO s")
            db.execute("UPDATE t SET x = x || 'b'")
            db.execute("COMMIT")
    db.close()


@scenario
def wal_padding():
    """Without power-safe overwrite the commit frame is repeated up to a sector."""
    db = connect("file:a.db?psow=0", journal_mode="wal", synchronous="full", cache_size=4)
    table(db)
    for n in range(6):
        transaction(db, lambda: rows(db, 1 + 5 * n))
    transaction(db, lambda: db.execute("UPDATE t SET x = x || 'b'"))
    db.close()


@scenario
def wal_vacuum():
    db = connect(journal_mode="wal", cache_size=6)
    table(db)
    transaction(db, lambda: rows(db, 80))
    db.execute("DELETE FROM t WHERE i > 20")
    db.execute("VACUUM")
    rows(db, 3)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    transaction(db, lambda: rows(db, 30))
    db.execute("DELETE FROM t")
    db.execute("VACUUM")
    db.close()


def auto_vacuum(mode, journal):
    db = connect(auto_vacuum=mode, journal_mode=journal, cache_size=6)
    table(db)
    for n in range(4):
        transaction(db, lambda: rows(db, 60))
        db.execute("DELETE FROM t WHERE i % 3 < 2")
        # Not by execute(), which would end after the first page.
        db.executescript("PRAGMA incremental_vacuum(7)")
    db.execute("DELETE FROM t")
    db.executescript("PRAGMA incremental_vacuum")
    rows(db, 2)
    db.close()


@scenario
def wal_auto_vacuum_full():
    auto_vacuum("full", "wal")


@scenario
def wal_auto_vacuum_incremental():
    auto_vacuum("incremental", "wal")


@scenario
def wal_killed():
    """A writer killed after a spill leaves frames that the next one writes over."""

    def work():
        db = connect(journal_mode="wal", cache_size=4)
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE t SET x = x || 'lost'")
        return db

    db = connect(journal_mode="wal")
    table(db)
    transaction(db, lambda: rows(db, 60))
    db.close()
    for n in range(3):
        killed(work)

        def after():
            db = connect(journal_mode="wal", wal_autocheckpoint=0)
            transaction(db, lambda: rows(db, 10 + n))
            rows(db, 3)
            killed_too.append(db)

        killed_too = []
        killed(after)
    db = connect()
    db.execute("SELECT count(*) FROM t").fetchall()
    rows(db, 1)
    db.close()


# --- rollback journal ------------------------------------------------------------------------------


def journal_mode(mode, **settings):
    db = connect(journal_mode=mode, cache_size=5, **settings)
    table(db)
    for n in range(4):
        transaction(db, lambda: rows(db, 25 - 6 * n))
        # A spill, then ROLLBACK: pages written and written back.
        transaction(db, lambda: db.execute("UPDATE t SET x = x || 'b'"), "ROLLBACK")
        db.execute("BEGIN IMMEDIATE")
        db.execute("COMMIT")
        db.execute("BEGIN IMMEDIATE")
        rows(db, 10)
        db.execute("SAVEPOINT s")
        db.execute("UPDATE t SET x = 'c' || x")
        db.execute("ROLLBACK TO s")
        db.execute("COMMIT")
        db.execute("DELETE FROM t WHERE i % 5 = 0")
    db.execute("DELETE FROM t WHERE i > 20")
    db.execute("VACUUM")
    rows(db, 2)
    db.close()


@scenario
def journal_delete():
    journal_mode("delete")


@scenario
def journal_delete_unsynced():
    journal_mode("delete", synchronous="off")


@scenario
def journal_truncate():
    journal_mode("truncate")


@scenario
def journal_persist():
    """Records of longer transactions stay in the journal behind those of shorter ones."""
    journal_mode("persist")


@scenario
def journal_persist_limited():
    journal_mode("persist", journal_size_limit=2000)


@scenario
def journal_4096():
    db = connect(page_size=4096)
    table(db)
    for n in range(4):
        transaction(db, lambda: rows(db, 10 * n))
        db.execute("DELETE FROM t WHERE i % 3 = 0")
    db.close()


@scenario
def journal_65536():
    db = connect(page_size=65536)
    table(db)
    for n in range(4):
        transaction(db, lambda: rows(db, 4 * n))
    db.execute("DELETE FROM t WHERE i % 3 = 0")
    db.close()


@scenario
def journal_auto_vacuum_full():
    auto_vacuum("full", "delete")


@scenario
def journal_auto_vacuum_incremental():
    auto_vacuum("incremental", "persist")


@scenario
def journal_free_pages():
    """Pages that are on the free list when the database grows are never written."""
    db = connect()
    table(db)
    db.execute("BEGIN")
    db.execute("CREATE TABLE u(x)")
    rows(db, 60, table="u")
    db.execute("DROP TABLE u")
    rows(db, 1)
    db.execute("COMMIT")
    db.close()


def hot(mode):
    """A writer killed with pages in the database: the next reader plays the journal back."""
    db = connect(journal_mode=mode)
    table(db)
    transaction(db, lambda: rows(db, 60))
    db.close()

    def work():
        db = connect(journal_mode=mode, cache_size=4)
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE t SET x = x || 'lost'")
        rows(db, 40)
        return db

    for n in range(3):
        killed(work)

        def after():
            db = connect(journal_mode=mode)
            db.execute("SELECT count(*) FROM t").fetchall()
            transaction(db, lambda: rows(db, n + 1))
            db.close()

        in_child(after)


@scenario
def hot_delete():
    hot("delete")


@scenario
def hot_truncate():
    hot("truncate")


@scenario
def hot_persist():
    hot("persist")


@scenario
def hot_new():
    """Killed in the very first transaction of a database."""

    def work():
        db = connect(cache_size=4)
        db.execute("BEGIN")
        table(db)
        rows(db, 60)
        return db

    killed(work)

    def after():
        db = connect()
        table(db)
        rows(db, 2)
        db.close()

    in_child(after)


@scenario
def journal_to_wal():
    db = connect()
    table(db)
    rows(db, 5)
    db.execute("PRAGMA journal_mode=wal").fetchall()
    rows(db, 5)
    transaction(db, lambda: rows(db, 40))
    db.execute("PRAGMA journal_mode=truncate").fetchall()
    rows(db, 5)
    db.close()


# --- refused ---------------------------------------------------------------------------------------


def attached(mode):
    db = connect(journal_mode=mode)
    db.execute("ATTACH 'b.db' AS b")
    table(db)
    db.execute("CREATE TABLE b.u(x)")
    rows(db, 3)
    db.execute("BEGIN")
    rows(db, 1)
    db.execute("INSERT INTO u VALUES(1)")
    db.execute("COMMIT")
    db.close()


@scenario
def refused_super_journal_delete():
    attached("delete")


@scenario
def refused_super_journal_persist():
    attached("persist")


@scenario
def refused_no_journal():
    db = connect()
    table(db)
    db.execute("PRAGMA journal_mode=memory").fetchall()
    rows(db, 1)
    db.close()


@scenario
def refused_page_size():
    db = connect(page_size=512)
    table(db)
    rows(db, 9)
    db.execute("PRAGMA page_size=1024")
    db.execute("VACUUM")
    db.close()


@scenario
def refused_exclusive():
    db = connect(locking_mode="exclusive")
    table(db)
    rows(db, 1)
    db.close()


if __name__ == "__main__":
    ALL[sys.argv[1]]()
