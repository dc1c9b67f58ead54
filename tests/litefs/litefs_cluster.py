"""A cluster with `engine: litefs` on this machine: `litefs-py dev` with a real LiteFS, and what its tests ask
of both."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from devcluster import (
    LONG,
    Cluster,
    Node,
    SqlError,
    Writer,
    die_with_parent,
    end_process,
    wait_for,
)

ROVER = Path(__file__).with_name("rover.py")


def find_litefs():
    """`LITEFS_PY_TEST_LITEFS`, or the one on PATH; and why there is none."""
    named = os.environ.get("LITEFS_PY_TEST_LITEFS")
    folders = [Path(folder) / "litefs" for folder in os.get_exec_path() if folder]
    for place in [Path(named)] if named else folders:
        if os.access(place, os.X_OK) and place.is_file():
            return place, None
    if named:
        return None, f"LITEFS_PY_TEST_LITEFS names {named}, which is no program"
    return None, "there is no LiteFS: set LITEFS_PY_TEST_LITEFS, or put litefs on PATH"


class LitefsNode(Node):
    @property
    def port(self):
        lines = (self.folder / "config.yml").read_text().splitlines()
        at = lines.index("litefs:")
        line = next(line for line in lines[at:] if line.strip().startswith("port:"))
        return int(line.split(":")[1])

    def litefs(self, path, method="GET", headers=None, timeout=5.0, body=None):
        """LiteFS's own HTTP: (status, headers, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def info(self):
        try:
            return json.loads(self.litefs("/info")[2])
        except (OSError, http.client.HTTPException, ValueError):
            return {}

    def position(self, name):
        """As its LiteFS has it at this moment; the daemon looks four times a second."""
        try:
            store = json.loads(self.litefs("/debug/vars")[2])["store"]
            told = store["dbs"][name]
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return None
        return f"{told['txid']}/{told['checksum']}"

    def litefs_pid(self):
        """Of LiteFS itself, as its guard wrote it down."""
        file = self.folder / "data/litefs-daemon/pid"
        return int(file.read_text().split()[0])

    def guard_pid(self):
        stat = Path(f"/proc/{self.litefs_pid()}/stat").read_text()
        return int(stat.rpartition(") ")[2].split()[1])


class LitefsCluster(Cluster):
    def __init__(self, folder, litefs, **options):
        super().__init__(folder, **options)
        self.binary = litefs

    def spawn(self):
        path = f"{self.folder.parent / 'bin'}:{os.environ.get('PATH', '')}"
        link = self.folder.parent / "bin" / "litefs"
        link.parent.mkdir(exist_ok=True)
        if not link.exists():
            link.symlink_to(self.binary)
        with open(self.folder.with_suffix(".dev.log"), "a") as output:
            self.dev = subprocess.Popen(
                [self.program, "dev", "--dir", self.folder, "--nodes", str(self.count),
                 "--engine", "litefs"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
                env={**os.environ, "PATH": path, "CONSUL_HTTP_ADDR": "http://127.0.0.1:1"},
            )  # fmt: skip

    def start(self, deadline=60):
        super().start(deadline)
        self.nodes = [LitefsNode(self.folder, told) for told in self.told()]
        return self

    def create(self, name, *statements):
        """On the primary, in WAL mode; returns when every node has it."""
        self.write(name, "PRAGMA journal_mode = wal")
        self.leader().sql(name, *statements)
        self.together(name)

    def together(self, name, deadline=30):
        """converges: all nodes that run are at one position of a database."""

        def same():
            positions = {node.position(name) for node in self.running()}
            return len(positions) == 1 and None not in positions and positions.pop()

        return wait_for(same, deadline, f"one position of {name}")

    def same(self, name):
        """All nodes hold the same, byte by byte."""
        self.together(name)
        contents = {node.name: node.content(name) for node in self.running()}
        assert len(set(contents.values())) == 1, contents

    def followers_of(self, node):
        return [other for other in self.nodes if other is not node]

    def write(self, name, statement, deadline=20):
        """On whichever node is primary, once one is."""

        def written():
            try:
                self.leader().sql(name, statement)
            except SqlError:
                return False
            return True

        wait_for(written, deadline, f"a write to {name}")

    def litefs_killed(self, rover, rounds):
        """Beneath an application that writes again each time: the moments."""
        for _ in range(rounds):
            rover.wrote(now())
            leader = self.leader()
            moment = now()
            self.kill_litefs(leader)
            rover.wrote(now())
            yield moment
            wait_for(lambda: all(n.is_ready() for n in self.nodes), 30, "all nodes ready")

    def kill_litefs(self, node, how=signal.SIGKILL):
        pid = node.litefs_pid()
        os.kill(pid, how)
        return pid

    @contextmanager
    def roving(self, name, log, pause=0):
        """An application that follows the primary."""
        rover = Rover(self, name, log, pause)
        try:
            yield rover
        finally:
            rover.stop()


class Rover(Writer):
    """What rover.py did; read like any writer's log."""

    def __init__(self, cluster, name, log, pause):
        self.who, self.log = "rover", Path(log)
        nodes = [f"{node.mount}={node.api}" for node in cluster.nodes]
        self.process = subprocess.Popen(
            [sys.executable, ROVER, name, log, str(pause), *nodes], preexec_fn=die_with_parent
        )

    def wrote(self, moment, rows=20, deadline=LONG):
        wait_for(lambda: self.after(moment) >= rows, deadline, "writes after the fault")

    def stop(self, deadline=LONG):
        if self.process.poll() is None:
            self.process.terminate()
        end_process(self.process, deadline)

    def pause_after(self, moment):
        """From the last acknowledged row before, to the first after it."""
        times = [when for what, _, when, _ in self.lines() if what == "+"]
        before = max((when for when in times if when <= moment), default=moment)
        after = min((when for when in times if when > moment), default=float("inf"))
        return after - before


def now():
    return time.time()
