"""One application: a process with one connection that does one workload, until SIGTERM.

    worker.py SPEC          SPEC: JSON, see `applications.py`

Nothing but Python's own sqlite3: a stock client. What it is about to do and what came of it goes to
its history, a line each, written at once: it survives a SIGKILL of this process.
"""

import json
import os
import random
import signal
import socket
import sqlite3
import sys
import time

from workloads import WORKLOADS

# What follows an error that tells nothing about the file, seconds.
PAUSE = 0.05
BARRIER = 8


class History:
    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def invoke(self, op):
        line = json.dumps({"i": op, "t": time.monotonic_ns()}, separators=(",", ":"))
        os.write(self.file, line.encode() + b"\n")

    def opened(self, begin):
        """A connection: which life of the daemon it belongs to follows from when it was made."""
        os.write(self.file, b'{"o":%d,"t":%d}\n' % (begin, time.monotonic_ns()))

    def complete(self, status, value, error=None, **more):
        end = {"s": status, "t": time.monotonic_ns()}
        if value is not None:
            end["v"] = value
        if error:
            end["e"] = error
        line = json.dumps({**end, **more}, separators=(",", ":"))
        os.write(self.file, line.encode() + b"\n")


class Worker:
    def __init__(self, spec):
        self.spec = spec
        self.rng = random.Random(spec["seed"])
        self.workload = WORKLOADS[spec["workload"]](spec["wid"], self.rng)
        self.workload.savepoints = spec.get("savepoints", True)
        self.history = History(spec["history"])
        self.path = f"file:{spec['mount']}/{spec['db']}?mode={spec.get('mode', 'rw')}"
        self.connection = None
        self.phase, self.busy = "", 0
        self.stopping = False

    def connect(self):
        """Never makes a file: while the daemon is down, the bare folder beneath is there."""
        timeout, begin = self.spec.get("timeout", 5.0), time.monotonic_ns()
        connection = sqlite3.connect(self.path, timeout=timeout, isolation_level=None, uri=True)
        for pragma in (*self.workload.PRAGMAS, *self.spec.get("pragmas", ())):
            connection.execute(pragma).fetchall()
        self.connection, self.busy = connection, 0
        self.history.opened(begin)

    def close(self):
        connection, self.connection = self.connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error:
                pass

    def at(self, phase):
        self.phase = phase

    def barrier(self):
        """Whether the node says that it shows all that was committed before."""
        request = f"POST /barrier?timeout={BARRIER}s HTTP/1.0\r\nHost: node\r\n\r\n"
        try:
            with socket.socket(socket.AF_UNIX) as api:
                api.settimeout(BARRIER + 5)
                api.connect(self.spec["socket"])
                api.sendall(request.encode())
                return api.recv(64).split(b" ")[1] == b"200"
        except (OSError, IndexError):
            return False

    def attempt(self, op):
        """(ok, fail or unknown; what the workload answers; the error, if any; more facts).

        `fail`: it did not happen. Before COMMIT nothing happens; BUSY is the one plain refusal of a
        COMMIT."""
        self.phase = "begin"
        more = {}
        try:
            if self.connection is None:
                self.connect()
            if op.get("barrier"):
                more["b"] = time.monotonic_ns()
                if not self.barrier():
                    return "fail", None, "no barrier", {}
            value = self.workload.run(self.connection, op, self.at)
            self.busy = 0
            return "ok", value, None, more
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", None) or str(error)
            refused = self.phase != "commit" or "BUSY" in name
            self.recover(name)
            return "fail" if refused else "unknown", None, f"{self.phase}:{name}", {}

    def recover(self, name):
        """After an error: the transaction is ended; where the file may be gone, it is opened anew."""
        if self.connection is None:
            time.sleep(PAUSE)
            return
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error:
            self.close()
        if "BUSY" in name:
            # A connection to a mount that is dead hears nothing but BUSY.
            self.busy += 1
            if self.busy >= 2 or self.rng.random() < 0.3:
                self.close()
            return
        # Half of the time the connection goes on: it is said to stay usable.
        if "IOERR" not in name or self.rng.random() < 0.5:
            self.close()
        time.sleep(PAUSE)

    def one(self, n):
        op = self.workload.next(n)
        if self.spec.get("hold"):
            op = {"n": n, "f": "long", "hold": self.rng.uniform(*self.spec["hold"])}
        self.history.invoke(op)
        status, value, error, more = self.attempt(op)
        self.history.complete(status, value, error, **more)

    def work(self):
        n = 0
        while not self.stopping:
            for _ in range(self.rng.randint(1, self.spec.get("burst", 1))):
                n += 1
                self.one(n)
                if self.stopping:
                    break
            time.sleep(self.rng.uniform(0, 2) * self.spec.get("pause", 0))
        self.close()


def main():
    worker = Worker(json.loads(sys.argv[1]))
    signal.signal(signal.SIGTERM, lambda *_: setattr(worker, "stopping", True))
    worker.work()


if __name__ == "__main__":
    main()
