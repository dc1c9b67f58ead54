"""The work that bench.py measures, each kind in a process of its own: work.py KIND ARGUMENT...

Prints a JSON value. Stock sqlite3, one statement a call, as an application does it.
"""

import http.client
import json
import random
import sqlite3
import sys
import time

ROWS = 100_000


def connect(database, synchronous="FULL"):
    connection = sqlite3.connect(database, timeout=20, isolation_level=None)
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    return connection


def writes(database, seconds, synchronous):
    """Small transactions a second: an INSERT of 100 bytes each."""
    connection = connect(database, synchronous)
    text, done = "x" * 100, 0
    end = (start := time.perf_counter()) + float(seconds)
    while time.perf_counter() < end:
        connection.execute("INSERT INTO t(x) VALUES (?)", (text,))
        done += 1
    return done / (time.perf_counter() - start)


def paced(database, seconds, each):
    """Seconds of each small transaction, begun at this pace: of a machine that has time left."""
    connection = connect(database)
    text, found = "x" * 100, []
    at = time.perf_counter()
    end = at + float(seconds)
    while at < end:
        time.sleep(max(0, at - time.perf_counter()))
        start = time.perf_counter()
        connection.execute("INSERT INTO t(x) VALUES (?)", (text,))
        found.append(time.perf_counter() - start)
        at += float(each)
    return found


def together(database, seconds, wait):
    """The same, begun after so many seconds, when all clients have started: transactions a second,
    the longest of them, and how many failed."""
    began = time.perf_counter()
    connection = connect(database)
    text, done, failed, longest = "x" * 100, 0, 0, 0.0
    time.sleep(max(0, began + float(wait) - time.perf_counter()))
    end = (start := time.perf_counter()) + float(seconds)
    while (moment := time.perf_counter()) < end:
        try:
            connection.execute("INSERT INTO t(x) VALUES (?)", (text,))
            done += 1
        except sqlite3.Error:
            failed += 1
        longest = max(longest, time.perf_counter() - moment)
    return {"rate": done / (time.perf_counter() - start), "longest": longest, "failed": failed}


def transactions(database, seconds):
    """How many small transactions were made in that time."""
    connection = connect(database)
    text, done = "x" * 100, 0
    end = time.perf_counter() + float(seconds)
    while time.perf_counter() < end:
        connection.execute("INSERT INTO t(x) VALUES (?)", (text,))
        done += 1
    return done


def reads(database, seconds, within_one):
    """Rows read by key a second; each its own transaction, or all within one."""
    connection = connect(database)
    if within_one == "one":
        connection.execute("BEGIN")
    keys = [random.randrange(1, ROWS) for _ in range(1000)]
    connection.execute("SELECT x FROM big WHERE id = 1").fetchone()
    done = 0
    end = (start := time.perf_counter()) + float(seconds)
    while time.perf_counter() < end:
        for key in keys:
            connection.execute("SELECT x FROM big WHERE id = ?", (key,)).fetchone()
        done += len(keys)
    return done / (time.perf_counter() - start)


def keyed(database, seconds):
    """How many rows were read by key in that time, each its own transaction."""
    connection = connect(database)
    done = 0
    end = time.perf_counter() + float(seconds)
    while time.perf_counter() < end:
        key = random.randrange(1, ROWS)
        connection.execute("SELECT x FROM big WHERE id = ?", (key,)).fetchone()
        done += 1
    return done


def bulk(database):
    """Seconds for a transaction of 100,000 rows."""
    connection = connect(database)
    connection.execute("DROP TABLE IF EXISTS bulk")
    connection.execute("CREATE TABLE bulk(id INTEGER PRIMARY KEY, x TEXT)")
    rows = [(number, f"{number:0100}") for number in range(ROWS)]
    start = time.perf_counter()
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO bulk VALUES (?, ?)", rows)
    connection.execute("COMMIT")
    return time.perf_counter() - start


def lag(leader, follower, count):
    """Seconds from an answered COMMIT on one node until a reader on another sees it, each."""
    writer, reader = connect(leader), connect(follower)
    found = []
    for _ in range(int(count)):
        row = writer.execute("INSERT INTO t(x) VALUES ('lag')").lastrowid
        start = time.perf_counter()
        while reader.execute("SELECT max(id) FROM t").fetchone()[0] < row:
            if time.perf_counter() - start > 10:
                raise SystemExit("the reader never saw the row")
        found.append(time.perf_counter() - start)
        time.sleep(0.01)
    return found


def linearizable(database, api, count):
    """Seconds for a barrier and a read by key after it, each."""
    connection = connect(database)
    server = http.client.HTTPConnection(api.split("//")[1], timeout=10)
    found = []
    for _ in range(int(count)):
        start = time.perf_counter()
        server.request("POST", "/barrier")
        answer = server.getresponse()
        answer.read()
        connection.execute(
            "SELECT x FROM big WHERE id = ?", (random.randrange(1, ROWS),)
        ).fetchone()
        found.append(time.perf_counter() - start)
        if answer.status != 200:
            raise SystemExit(f"the barrier answered {answer.status}")
    return found


def fill(database, size, at_once, how="safe"):
    """Rows of a page each, of bytes that nothing compresses, until the database has this size."""
    connection = connect(database)
    if how == "unsafe":
        connection.execute("PRAGMA journal_mode = off")
        connection.execute("PRAGMA synchronous = off")
    connection.execute("CREATE TABLE blobs(id INTEGER PRIMARY KEY, x BLOB)")
    left, rows = int(float(size) / 4096), int(float(at_once) / 4096)
    while left > 0:
        connection.execute(
            "INSERT INTO blobs(x) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
            " WHERE i < ?) SELECT randomblob(3900) FROM n",
            (min(rows, left),),
        )
        left -= rows


def prepare(database, journal="wal"):
    """The tables, and rows to read."""
    connection = connect(database)
    connection.execute(f"PRAGMA journal_mode = {journal}")
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT)")
    connection.execute("CREATE TABLE big(id INTEGER PRIMARY KEY, x TEXT)")
    connection.execute("BEGIN")
    rows = ((number, f"{number:0100}") for number in range(ROWS))
    connection.executemany("INSERT INTO big VALUES (?, ?)", rows)
    connection.execute("COMMIT")


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
