"""An application that writes to whichever node is primary, as fast as it can, and keeps a log of what it was
answered. A process of its own: a mount that hangs must not hang the test.

    rover.py DATABASE LOG PAUSE MOUNT=API...

Each line of the log: what (`?` begun, `+` acknowledged, `-` refused), the row, the time, where or why.

Like the workers of a real application it does not wait for one that is stuck: each time that a node becomes
primary, another worker begins, with a connection of its own. One that was there before ends with its statement,
whenever SQLite gives up (on a mount whose LiteFS is gone, after the busy timeout or 10 s).
"""

import http.client
import itertools
import signal
import sqlite3
import sys
import threading
import time


def is_primary(api):
    host = api.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=0.5)
    try:
        connection.request("GET", "/primary")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Worker(threading.Thread):
    """Writes by one connection until that fails, or its node is not primary any more."""

    def __init__(self, rover, mount):
        super().__init__(daemon=True)
        self.rover, self.mount, self.going = rover, mount, True

    def run(self):
        try:
            connection = sqlite3.connect(
                f"{self.mount}/{self.rover.database}", timeout=1, isolation_level=None
            )
        except sqlite3.Error:
            # Its LiteFS has just gone.
            return
        while self.going and self.rover.going:
            k = next(self.rover.rows)
            self.rover.say("?", k)
            try:
                connection.execute("INSERT INTO log(who, k) VALUES ('rover', ?)", (k,))
            except sqlite3.Error as error:
                self.rover.say("-", k, str(error))
                break
            self.rover.say("+", k, self.mount)
            if self.rover.pause:
                time.sleep(self.rover.pause)
        try:
            connection.close()
        except sqlite3.Error:
            pass


class Rover:
    def __init__(self, database, log, pause, nodes):
        self.database, self.pause = database, pause
        self.nodes = [node.split("=") for node in nodes]
        self.log = open(log, "a", buffering=1)  # noqa: SIM115
        self.rows, self.going, self.lock = itertools.count(1), True, threading.Lock()

    def say(self, what, k, why=""):
        with self.lock:
            self.log.write(f"{what} {k} {time.time():.6f} {why}\n")

    def run(self):
        workers = {}
        while self.going:
            for mount, api in self.nodes:
                worker = workers.get(mount)
                if not is_primary(api):
                    if worker:
                        worker.going = False
                        del workers[mount]
                elif worker is None or not worker.is_alive():
                    workers[mount] = Worker(self, mount)
                    workers[mount].start()
            time.sleep(0.002)
        for worker in workers.values():
            worker.join(2)

    def stop(self, *_):
        self.going = False


rover = Rover(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:])
signal.signal(signal.SIGTERM, rover.stop)
rover.run()
