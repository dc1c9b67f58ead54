"""An application that writes to whichever node is primary, as fast as it can, and keeps a log of what it was
answered. A process of its own: a mount that hangs must not hang the test.

    rover.py DATABASE LOG PAUSE MOUNT=API...

Each line of the log: what (`?` begun, `+` acknowledged, `-` refused), the row, the time, where or why.
"""

import http.client
import signal
import sqlite3
import sys
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


class Rover:
    def __init__(self, database, log, pause, nodes):
        self.database, self.pause = database, pause
        self.nodes = [node.split("=") for node in nodes]
        self.log = open(log, "a", buffering=1)  # noqa: SIM115
        self.connection, self.going = None, True

    def say(self, what, k, why=""):
        self.log.write(f"{what} {k} {time.time():.6f} {why}\n")

    def find(self):
        while self.going:
            for mount, api in self.nodes:
                if is_primary(api):
                    self.where = mount
                    try:
                        # Never made: the mount may be gone, and the folder beneath it bare.
                        return sqlite3.connect(
                            f"file:{mount}/{self.database}?mode=rw",
                            timeout=1,
                            isolation_level=None,
                            uri=True,
                        )
                    except sqlite3.Error:
                        # Its LiteFS has just gone.
                        continue
            time.sleep(0.002)
        return None

    def run(self):
        k = 0
        while self.going:
            if self.connection is None:
                self.connection = self.find()
                continue
            k += 1
            self.say("?", k)
            try:
                self.connection.execute("INSERT INTO log(who, k) VALUES ('rover', ?)", (k,))
            except sqlite3.Error as error:
                self.say("-", k, str(error))
                try:
                    self.connection.close()
                except sqlite3.Error:
                    pass
                self.connection = None
            else:
                self.say("+", k, self.where)
            if self.pause:
                time.sleep(self.pause)

    def stop(self, *_):
        self.going = False


rover = Rover(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:])
signal.signal(signal.SIGTERM, rover.stop)
rover.run()
