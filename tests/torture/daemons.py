"""The nodes' daemons, and what systemd would do for them: start them again whenever they end.

This process never touches a mount: a daemon that hangs would hang it too.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import certificates
import isolation
from network import Network, inside

CLUSTER = "torture"
# A killed daemon that is not gone after so many seconds waits for its own mount (mapped shared
# memory, where there is no passthrough): the mount is then ended by force.
STUCK = 1.0
# Between the end of a daemon and its next start, seconds (systemd: RestartSec).
RESTART_PAUSE = 0.1
# What a node ends with that was removed; it is not started again (systemd: RestartPreventExitStatus).
REMOVED = 78


class UnixConnection(http.client.HTTPConnection):
    """HTTP through a Unix socket: it is reached from any network namespace."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(path, url, method="GET", body=None, timeout=2.0):
    """(status code, JSON or text); (0, None) when nobody answers."""
    connection = UnixConnection(path, timeout)
    headers = {"Content-Type": "application/json"} if body else {}
    try:
        connection.request(method, url, body, headers)
        response = connection.getresponse()
        text = response.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, None
    finally:
        connection.close()
    is_json = response.headers.get_content_type() == "application/json"
    return response.status, json.loads(text) if is_json else text


class Node:
    """One node. Its process changes with each start, the rest stays."""

    def __init__(self, folder, name):
        self.name, self.folder = name, Path(folder)
        self.data, self.mount = self.folder / "data", self.folder / "mount"
        self.socket, self.log = self.folder / "api.sock", self.folder / "log"
        self.config = self.folder / "config.yml"
        self.process, self.program = None, None
        # Whether it shall be started when it has ended; whether its end was the nemesis's doing.
        self.wanted, self.killed, self.paused = True, False, False
        # It is being removed from the cluster, and ends by itself.
        self.leaving = False
        # Until when it may end by itself: its disk is full.
        self.may_end = 0.0
        self.killed_at = 0.0

    def __repr__(self):
        return self.name

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def ask(self, url, method="GET", body=None, timeout=2.0):
        return ask(self.socket, url, method, body, timeout)

    def status(self):
        code, body = self.ask("/cluster", timeout=1.0)
        return body if code == 200 else None

    def is_ready(self):
        return self.ask("/readiness", timeout=1.0)[0] == 200

    def positions(self):
        code, body = self.ask("/databases")
        return {each["name"]: each["position"] for each in body} if code == 200 else None

    def memory(self):
        """(resident bytes, open files) of its process; zeros while it is down."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            files = len(os.listdir(f"/proc/{self.process.pid}/fd"))
            return int(status.split("VmRSS:")[1].split()[0]) * 1024, files
        except (OSError, AttributeError, IndexError):
            return 0, 0

    def log_end(self, lines=30):
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return text.splitlines()[-lines:]


class Daemons:
    """All nodes, and the thread that starts them again. `events` gets every start and end.

    `nodes` are the cluster. `guest` is one more, which is there only for as long as a fault lets it
    join (member_faults.py)."""

    def __init__(self, folder, count, program, events, settings):
        names = [f"n{number}" for number in range(1, count + 2)]
        self.network = Network(names)
        *self.nodes, self.guest = (Node(folder / name, name) for name in names)
        self.everybody = [*self.nodes, self.guest]
        self.guest.wanted = False
        self.program, self.events, self.settings = program, events, settings
        for node in self.everybody:
            node.program = program
        self.lock = threading.RLock()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.keep, daemon=True)

    def node(self, name):
        return next(node for node in self.nodes if node.name == name)

    # Making them

    def make(self):
        self.network.make()
        ca = self.nodes[0].folder.parent / "ca"
        certificates.make_ca(ca, CLUSTER)
        for number, node in enumerate(self.everybody, 1):
            for folder in (node.data, node.mount):
                folder.mkdir(parents=True, exist_ok=True)
            if node is not self.guest:
                certificates.make_node(ca, node.folder / "tls", CLUSTER, node.name)
            isolation.mount("tmpfs", node.data, "tmpfs", 0, f"size={self.settings['disk']}")
            node.config.write_text(self.configuration(node, number, ca))

    def address(self, node):
        return f"{self.network.address(node.name)}:4321"

    def configuration(self, node, number, ca):
        """Strict YAML; JSON is such. The guest's is what `join --replace` goes on from."""
        here = self.everybody if node is self.guest else self.nodes
        members = [
            {"id": id, "name": each.name, "address": self.address(each)}
            for id, each in enumerate(here, 1)
        ]
        tls = {"ca": "ca.crt", "cert": "node.crt", "key": "node.key"}
        tls = {key: str(node.folder / "tls" / name) for key, name in tls.items()}
        if self.settings["newer"] and node is not self.guest:
            tls["ca_key"] = str(ca / "ca.key")
        config = {
            "cluster": CLUSTER,
            "node": {"id": number, "name": node.name},
            "members": members,
            "bootstrap": number == 1,
            "data_dir": str(node.data),
            "mount": {
                "path": str(node.mount),
                "passthrough": self.settings["passthrough"],
                # The folders of a run are to go when it is over.
                "immutable": "off",
            },
            "mesh": {"listen": "0.0.0.0:4321", "tls": tls},
            "api": {"socket": str(node.socket)},
            "raft": self.settings["raft"],
            "log": {"level": self.settings["level"], "format": "text"},
        }
        if self.settings["newer"]:
            config["scrub_interval"] = "2s"
        return json.dumps(config, indent=1)

    # Their lives

    def start(self):
        for node in self.nodes:
            self.spawn(node)
        self.thread.start()

    def spawn(self, node):
        with open(node.log, "a") as log:
            node.process = subprocess.Popen(
                [*inside(node.name), str(node.program), "node", "--config", str(node.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        node.killed = node.paused = False
        node.killed_at = float("inf")
        self.events.add("start", node=node.name)

    def keep(self):
        ended = {}
        while not self.over.wait(0.02):
            with self.lock:
                for node in self.everybody:
                    if node.alive():
                        if time.monotonic() - node.killed_at > STUCK:
                            isolation.end_mount(node.mount)
                        continue
                    if node not in ended:
                        ended[node] = time.monotonic()
                        self.note_end(node)
                    if node.wanted and time.monotonic() - ended[node] >= RESTART_PAUSE:
                        del ended[node]
                        self.spawn(node)

    def note_end(self, node):
        if node.process is None:
            return
        if node.leaving and node.process.returncode == REMOVED:
            node.wanted = False
        facts = {"node": node.name, "code": node.process.returncode, "wanted": not node.killed}
        if not node.killed:
            self.events.add("down", node=node.name)
            facts["allowed"] = time.monotonic() < node.may_end
            facts["log"] = node.log_end()
        self.events.add("end", **facts)

    def stop(self):
        """All of them, in order."""
        with self.lock:
            self.over.set()
            started = [node for node in self.everybody if node.process is not None]
            for node in started:
                self.resume(node)
                node.killed = True
                if node.alive():
                    node.process.send_signal(signal.SIGTERM)
            for node in started:
                try:
                    node.process.wait(20)
                except subprocess.TimeoutExpired:
                    self.events.add("hung-at-stop", node=node.name, log=node.log_end())
                    node.process.kill()

    # What the nemesis does to them

    def kill(self, node, hold=False, how=signal.SIGKILL):
        """`hold`: it is not started again until `release`."""
        with self.lock:
            node.wanted = not hold
            if node.alive():
                node.killed = True
                self.events.add("down", node=node.name)
                node.process.send_signal(how)
                if how == signal.SIGKILL:
                    node.killed_at = time.monotonic()

    def release(self, node):
        with self.lock:
            node.wanted = True

    def is_to_leave(self, node):
        """It is about to be removed: its end is no surprise, and it is not started after it."""
        with self.lock:
            node.leaving, node.may_end = True, float("inf")
            if node.alive():
                node.killed = True
                self.events.add("down", node=node.name)

    def is_back(self, node):
        """It may be started again, as the member that it has just become."""
        with self.lock:
            node.leaving, node.may_end = False, 0.0
            node.wanted = True

    def wait_dead(self, node):
        """After `kill` with `hold`."""
        node.process.wait(30)

    def has_ended(self, node, seconds):
        """Whether it ends within so many seconds, and stays down."""
        end = time.monotonic() + seconds
        while node.alive() or node.wanted:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def pause(self, node):
        with self.lock:
            if node.alive():
                node.process.send_signal(signal.SIGSTOP)
                node.paused = True

    def resume(self, node):
        with self.lock:
            if node.paused and node.alive():
                node.process.send_signal(signal.SIGCONT)
            node.paused = False

    def heal(self):
        self.network.heal()
        for node in self.nodes:
            self.release(node)
            self.resume(node)

    # What they say

    def leader(self):
        """The node that leads as far as one can tell; none in between."""
        best = None
        for node in self.nodes:
            if node.paused or not node.alive():
                continue
            status = node.status()
            if status and status["role"] == "primary" and status["quorum"]["ok"]:
                if best is None or status["term"] > best[0]:
                    best = (status["term"], node)
        return best[1] if best else None

    def wait_ready(self, seconds):
        """Whether all are ready, with a leader, within so many seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.over.is_set():
            if all(node.alive() and node.is_ready() for node in self.nodes) and self.leader():
                return True
            time.sleep(0.05)
        return False

    def settled(self, seconds):
        """The positions of all databases when all nodes have the same; none if they do not in time."""
        end = time.monotonic() + seconds
        while True:
            found = [node.positions() for node in self.nodes]
            if found[0] is not None and all(each == found[0] for each in found):
                return found[0]
            if time.monotonic() > end:
                return None
            time.sleep(0.05)
