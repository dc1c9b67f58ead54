"""One application: the sqlite3 shell, fed with statements of the counter workload, until SIGTERM.

    shell_worker.py SPEC

The shell is the client; this process only writes to it and keeps the history. It ends at its first
error, and is then started anew.
"""

import json
import os
import random
import select
import signal
import subprocess
import sys
import time

from isolation import die_with_parent
from worker import PAUSE, History
from workloads import COUNTERS

# No answer of a healthy client takes so long, seconds; it is then left alone and a new one started.
LONGEST = 60


class Shell:
    def __init__(self, database, timeout):
        # `.open` does not make the file with this URI (the bare folder beneath a mount that is gone).
        self.process = subprocess.Popen(
            ["sqlite3", "-batch", "-bail", "-cmd", f".timeout {int(timeout * 1000)}", database],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
        self.unread = b""

    def ask(self, *lines):
        """What it says up to its end, or to a line `done`."""
        said = []
        try:
            self.process.stdin.write("\n".join([*lines, ".print done", ""]).encode())
            self.process.stdin.flush()
        except OSError:
            return [*said, "ended"]
        end = time.monotonic() + LONGEST
        while not said or said[-1] != "done":
            while b"\n" not in self.unread:
                left = max(0, end - time.monotonic())
                if not select.select([self.process.stdout], [], [], left)[0]:
                    return [*said, "hung"]
                more = os.read(self.process.stdout.fileno(), 65536)
                if not more:
                    return [*said, "ended"]
                self.unread += more
            line, _, self.unread = self.unread.partition(b"\n")
            said.append(line.decode(errors="replace"))
        return said

    def end(self):
        self.process.kill()
        self.process.wait()


def statements(wid, n, counter, explicit):
    """One statement, or a transaction; marks in between say how far it came."""
    insert = f"INSERT INTO log(who, n, a) VALUES ({wid}, {n}, {counter}) RETURNING 'seq', seq;"
    if not explicit:
        return [".print commit", insert]
    return ["BEGIN IMMEDIATE;", insert, ".print commit", "COMMIT;"]


def result(said):
    """(status, value, error) of what the shell said."""
    if said and said[-1] == "done":
        [seq] = [int(line.split("|")[1]) for line in said if line.startswith("seq|")]
        return "ok", {"q": seq}, None
    error = " ".join(line for line in said if line not in ("commit", "done"))
    busy = "locked" in error or "busy" in error
    if "commit" not in said or busy:
        return "fail", None, error
    return "unknown", None, error


def main():
    spec = json.loads(sys.argv[1])
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    rng, history = random.Random(spec["seed"]), History(spec["history"])
    database = f"file:{spec['mount']}/{spec['db']}?mode=rw"
    shell, n, fresh, begin = None, 0, False, 0
    while not stop:
        n += 1
        counter, explicit = rng.randrange(COUNTERS), rng.random() < 0.5
        history.invoke({"n": n, "f": "count", "a": counter})
        if shell is None:
            begin = time.monotonic_ns()
            shell = Shell(database, spec.get("timeout", 5.0))
            # It opens the file with its first statement.
            fresh = True
        status, value, error = result(shell.ask(*statements(spec["wid"], n, counter, explicit)))
        if fresh:
            history.opened(begin)
            fresh = False
        history.complete(status, value, error)
        if status != "ok":
            shell.end()
            shell = None
            time.sleep(PAUSE)
        time.sleep(rng.uniform(0, 2) * spec.get("pause", 0))
    if shell:
        shell.end()


if __name__ == "__main__":
    main()
