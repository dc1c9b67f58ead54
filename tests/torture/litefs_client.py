"""One application of a node with `engine: litefs`: it writes whether its node is primary or not, looks at what
is there, and writes down what it was answered. Until SIGTERM.

    litefs_client.py SPEC          SPEC: JSON, see `applications.py`

Each transaction adds a row to two tables, and a trigger counts: what is half, or comes from nowhere, is
seen. An operation that takes too long ends the process (SIGALRM), which is then started anew: SQLite itself
may wait for 10 s on a mount whose LiteFS is gone.
"""

import json
import random
import signal
import sqlite3
import sys
import time

from worker import History

# The longest that one operation may take, seconds.
LONGEST = 4.0
# After a refusal; after a write, so that the others get processor time too.
PAUSE, REST = 0.02, 0.003

TABLES = (
    "CREATE TABLE log(seq INTEGER PRIMARY KEY, who INT, n INT, UNIQUE(who, n))",
    "CREATE TABLE twin(seq INTEGER PRIMARY KEY, who INT, n INT)",
    "CREATE TABLE counter(n INT)",
    "INSERT INTO counter VALUES (0)",
    "CREATE TRIGGER count AFTER INSERT ON log BEGIN UPDATE counter SET n = n + 1; END",
)
LOOK = """
SELECT (SELECT count(*) FROM log), (SELECT count(*) FROM twin), (SELECT n FROM counter), log.seq, log.who, log.n,
  twin.seq, twin.who, twin.n
FROM (SELECT max(seq) AS top FROM log) LEFT JOIN log ON log.seq = top
LEFT JOIN twin ON twin.seq = (SELECT max(seq) FROM twin)
"""


class Client:
    def __init__(self, spec):
        self.spec, self.rng = spec, random.Random(spec["seed"])
        self.path = f"file:{spec['mount']}/{spec['db']}?mode=rw"
        self.history = History(spec["history"])
        self.connection, self.stopping, self.phase = None, False, ""

    def close(self):
        connection, self.connection = self.connection, None
        try:
            if connection is not None:
                connection.close()
        except sqlite3.Error:
            pass

    def connect(self):
        """Never makes a file: while LiteFS is down, the bare folder beneath is there."""
        begin = time.monotonic_ns()
        self.connection = sqlite3.connect(self.path, timeout=1, isolation_level=None, uri=True)
        self.history.opened(begin)

    def write(self, op):
        self.phase = "begin"
        self.connection.execute("BEGIN IMMEDIATE")
        row = (self.spec["wid"], op["n"])
        seq = self.connection.execute("INSERT INTO log(who, n) VALUES (?, ?)", row).lastrowid
        self.connection.execute("INSERT INTO twin VALUES (?, ?, ?)", (seq, *row))
        self.phase = "commit"
        self.connection.execute("COMMIT")
        return {"q": seq}

    def one(self, op):
        """Whether it was done."""
        self.history.invoke(op)
        self.phase = "begin"
        signal.setitimer(signal.ITIMER_REAL, LONGEST)
        try:
            if self.connection is None:
                self.connect()
            if op["f"] == "write":
                value = self.write(op)
            else:
                value = {"v": self.connection.execute(LOOK).fetchone()}
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", None) or str(error)
            refused = self.phase != "commit" or "BUSY" in name
            status = "fail" if refused else "unknown"
            self.history.complete(status, None, f"{self.phase}:{name}")
            # A rollback on a mount that is gone tells nothing; closing does the same.
            self.close()
            return False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.history.complete("ok", value)
        return True

    def work(self):
        n = 0
        while not self.stopping:
            n += 1
            done = self.one({"n": n, "f": "write"})
            time.sleep(REST if done else PAUSE)
            if not done or self.rng.random() < 0.05:
                n += 1
                self.one({"n": n, "f": "read"})
        self.close()


def main():
    client = Client(json.loads(sys.argv[1]))
    signal.signal(signal.SIGTERM, lambda *_: setattr(client, "stopping", True))
    client.work()


if __name__ == "__main__":
    main()
