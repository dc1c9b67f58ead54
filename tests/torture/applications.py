"""The applications: which client does what on which node, started, and started again when killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent
# A client that was told to stop ends within so many seconds: the longest statement and some more
# (bounded-answer: commit_timeout is 15 s, the busy timeout 5 s).
STOPPING = 40
# By what a client's plan says of it.
PROGRAMS = {None: "worker.py", "shell": "shell_worker.py", "litefs": "litefs_client.py"}


def plan(nodes, rng):
    """Of each client: node, workload, and how it goes about it."""
    clients = []
    for number, node in enumerate(nodes):
        for workload in ("lists", "bank", "counter", "register", "orders"):
            spec = {"workload": workload, "burst": rng.choice([1, 20, 60]), "pause": 0.04}
            spec["timeout"] = rng.choice([0.5, 2.0, 5.0, 5.0])
            limit = rng.choice([None, None, 40])
            if limit:
                spec["pragmas"] = [f"PRAGMA wal_autocheckpoint = {limit}"]
            clients.append((node, spec))
        clients.append((node, {"workload": "lists", "burst": 10, "pause": 0.1}))
        held = {"workload": ("bank", "orders")[number % 2], "hold": (0.5, 4.0), "pause": 0.1}
        clients.append((node, {**held, "mode": rng.choice(["rw", "ro"])}))
        if number < 2:
            clients.append((node, {"workload": "counter", "program": "shell", "pause": 0.01}))
    # A database of each node's own, with two writers there: nobody else asks for its lock.
    for number, node in enumerate(nodes[:3]):
        for _ in range(2):
            workload = ("bank", "counter", "register")[number % 3]
            spec = {"workload": workload, "db": f"own-{node.name}.db", "burst": 50, "pause": 0.02}
            clients.append((node, spec))
    return clients


def database(spec):
    return spec.get("db", f"{spec['workload']}.db")


class Application:
    """A client's process. Its number and history are new with each start."""

    def __init__(self, node, spec):
        self.node, self.spec = node, spec
        self.process = None
        self.paused = False

    def __repr__(self):
        return f"{self.spec['workload']} on {self.node}"

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        """To its whole process group: the shell too."""
        if self.alive():
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                pass


class Applications:
    def __init__(self, events):
        self.events = events
        self.list, self.wid = [], 0
        # How a client may end without anybody asking why.
        self.ends = {0, -signal.SIGKILL}
        self.lock = threading.RLock()
        self.over = threading.Event()
        self.thread = None

    def start(self, folder, clients, seed):
        self.folder, self.seed = folder, seed
        folder.mkdir(parents=True, exist_ok=True)
        self.list = [Application(node, spec) for node, spec in clients]
        self.over.clear()
        for application in self.list:
            self.spawn(application)
        self.thread = threading.Thread(target=self.keep, daemon=True)
        self.thread.start()

    def spawn(self, application):
        self.wid += 1
        node, name = application.node, database(application.spec)
        workload = application.spec["workload"]
        history = self.folder / f"{name}.{workload}.{node.name}.{self.wid}.jsonl"
        spec = {
            **application.spec,
            "wid": self.wid,
            "seed": f"{self.seed}:{self.wid}",
            "db": name,
            "mount": str(node.mount),
            "socket": str(node.socket),
            "history": str(history),
        }
        program = PROGRAMS[spec.get("program")]
        with open(self.folder / "clients.log", "a") as log:
            application.process = subprocess.Popen(
                [sys.executable, str(HERE / program), json.dumps(spec)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        application.paused = False

    def keep(self):
        while not self.over.wait(0.05):
            with self.lock:
                for application in self.list:
                    if not application.alive() and not self.over.is_set():
                        if application.process.returncode not in self.ends:
                            code = application.process.returncode
                            self.events.add("client-ended", client=repr(application), code=code)
                        self.spawn(application)

    def come(self, clients):
        """More of them, for a while: on a node that is a guest."""
        visitors = [Application(node, spec) for node, spec in clients]
        with self.lock:
            for visitor in visitors:
                self.spawn(visitor)
            self.list += visitors
        return visitors

    def go(self, visitors):
        """They end, and are not started again."""
        with self.lock:
            self.list = [each for each in self.list if each not in visitors]
        for hung in end(visitors):
            self.events.add("hung-visitor", client=hung)

    def kill(self, application):
        with self.lock:
            application.signal(signal.SIGKILL)
            # It may wait in the kernel for a while yet; another takes its place now.
            self.spawn(application)

    def pause(self, application):
        with self.lock:
            application.signal(signal.SIGSTOP)
            application.paused = True

    def resume(self, application):
        with self.lock:
            if application.paused:
                application.signal(signal.SIGCONT)
            application.paused = False

    def stop(self):
        """All of them; answers those that did not end in time."""
        self.over.set()
        self.thread.join()
        for application in self.list:
            self.resume(application)
        return end(self.list)


def end(applications):
    """Answers those that did not end in time, with where the kernel holds them."""
    for application in applications:
        application.signal(signal.SIGTERM)
    hung = []
    until = time.monotonic() + STOPPING
    for application in applications:
        try:
            application.process.wait(max(0.01, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            hung.append(f"{application!r}: {where(application.process.pid)}")
            application.signal(signal.SIGKILL)
    return hung


def where(pid):
    """Where in the kernel a process waits."""
    found = []
    for name in ("wchan", "stack"):
        try:
            found.append(Path(f"/proc/{pid}/{name}").read_text().strip().replace("\n", " < "))
        except OSError:
            pass
    return "; ".join(found)
