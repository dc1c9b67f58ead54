"""Three nodes, each in a network namespace of its own, and one namespace more: the outside.

A switch in a fifth namespace joins them; the machine's own network is not touched. Mounts are seen by
all (only the network is apart), so applications run as ever. What attacks comes from the outside.
"""

import ctypes
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from devcluster import Cluster, Node, is_alive, run, wait_for

MESH, API = 4321, 8008
TOKEN = "a-token-of-the-tests"
OUTSIDE = "10.77.0.99"
FILES = 1024
CLONE_NEWNET = 0x40000000


def inside(namespace, action):
    """What `action` answers, run by a thread in this namespace: sockets belong to where they are made."""
    answer = []

    def work():
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{namespace}") as file:
            if libc.setns(file.fileno(), CLONE_NEWNET):
                answer.append(OSError(ctypes.get_errno(), f"setns {namespace}"))
                return
        try:
            answer.append(action())
        except OSError as error:
            answer.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(120)
    if isinstance(answer[0], OSError):
        raise answer[0]
    return answer[0]


def http_over(stream, path, method="GET", headers=None, body=None):
    """(status code, JSON or text) over a connection that stands; (0, None) if it broke."""
    connection = http.client.HTTPConnection("node")
    connection.sock = stream
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        text = response.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, None
    finally:
        connection.close()
    is_json = response.headers.get_content_type() == "application/json"
    return response.status, json.loads(text) if is_json and text else text


class FencedNode(Node):
    """Its operator asks through the Unix socket."""

    def __init__(self, folder, told, address):
        super().__init__(folder, told)
        self.address = address

    def ask(self, path, method="GET", timeout=2.0):
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(timeout)
        try:
            stream.connect(str(self.folder / "api.sock"))
        except OSError:
            stream.close()
            return 0, None
        return http_over(stream, path, method)


class Fenced(Cluster):
    """The cluster. `litefs-py dev` makes the folder, the certificates and the configuration; then
    each node is moved to addresses that others could reach."""

    def __init__(self, folder, program):
        super().__init__(folder, program=program)
        self.prefix = f"lfs-{os.getpid()}-"
        self.daemons = {}

    def namespace(self, name):
        return self.prefix + name

    # The network

    def make_network(self):
        def ip(*arguments, at):
            run("ip", "-n", self.namespace(at), *arguments)

        names = ["n1", "n2", "n3", "out"]
        for name in ["hub", *names]:
            run("ip", "netns", "add", self.namespace(name))
            ip("link", "set", "lo", "up", at=name)
        ip("link", "add", "br0", "type", "bridge", at="hub")
        ip("link", "set", "br0", "up", at="hub")
        for name in names:
            far = ["peer", "name", name, "netns", self.namespace("hub")]
            ip("link", "add", "eth0", "type", "veth", *far, at=name)
            ip("addr", "add", f"{self.address(name)}/24", "dev", "eth0", at=name)
            ip("link", "set", "eth0", "up", at=name)
            ip("link", "set", name, "master", "br0", "up", at="hub")

    @staticmethod
    def address(name):
        return OUTSIDE if name == "out" else f"10.77.0.{name[1:]}"

    # Start and stop

    def start(self, deadline=60):
        super().start(deadline)
        told = self.told()
        assert self.stop() == 0
        token = self.folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        self.make_network()
        ports = {}
        for entry in json.loads((self.folder / "dev.json").read_text())["nodes"]:
            ports[entry["name"]] = entry["mesh_port"], entry["api_port"]
        for node in told:
            config = self.folder / node["name"] / "config.yml"
            text = config.read_text()
            mesh, api = ports[node["name"]]
            text = text.replace(f"listen: 127.0.0.1:{mesh}", f"listen: 0.0.0.0:{MESH}")
            # The last is as nodes are by default: its API on loopback only.
            where = "127.0.0.1" if node["name"] == "n3" else "0.0.0.0"
            text = text.replace(f"listen: 127.0.0.1:{api}", f"listen: {where}:{API}")
            text = text.replace("token_file: null", f"token_file: {token}")
            for name, (port, _) in ports.items():
                text = text.replace(f"127.0.0.1:{port}", f"{self.address(name)}:{MESH}")
            config.write_text(text)
            shutil.rmtree(self.folder / node["name"] / "data")
        for node in told:
            self.launch(node["name"])
            node["pid"] = self.daemons[node["name"]].pid
        self.nodes = [FencedNode(self.folder, node, self.address(node["name"])) for node in told]
        wait_for(lambda: all(node.is_ready() for node in self.nodes), deadline, "all nodes ready")
        self.leader()
        return self

    def launch(self, name):
        log = open(self.folder / name / "log", "ab")

        def prepare():
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)
            # What systemd gives a service that does not ask for more.
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))

        self.daemons[name] = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.namespace(name)}", self.program, "node",
             "--config", self.folder / name / "config.yml"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=prepare,
        )  # fmt: skip
        log.close()

    def clear(self):
        for daemon in self.daemons.values():
            daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(30)
        super().clear()
        for name in ("n1", "n2", "n3", "out", "hub"):
            if Path(f"/run/netns/{self.namespace(name)}").exists():
                run("ip", "netns", "del", self.namespace(name), check=False)

    # From the outside

    def connect(self, node, port, timeout=5.0):
        """A TCP connection of a stranger to a node."""
        return inside(
            self.namespace("out"), lambda: socket.create_connection((node.address, port), timeout)
        )

    def http(self, node, path, method="GET", token=None, body=None, headers=None, timeout=5.0):
        """A stranger's question to a node; with the token if one is given."""
        headers = dict(headers or {})
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return http_over(self.connect(node, API, timeout), path, method, headers, body)

    def dead(self):
        return [name for name, daemon in self.daemons.items() if not is_alive(daemon.pid)]


class Watch:
    """The memory of the nodes while something goes on, and what they log of it."""

    def __init__(self, cluster):
        self.cluster, self.peak, self.stopped = cluster, {}, threading.Event()

    def __enter__(self):
        self.began = time.time()
        self.before = {node: node.resident() for node in self.cluster.nodes}
        self.logged = {node: len(node.log()) for node in self.cluster.nodes}
        self.peak = dict(self.before)
        self.thread = threading.Thread(target=self.sample)
        self.thread.start()
        return self

    def sample(self):
        while not self.stopped.wait(0.02):
            for node in self.cluster.nodes:
                try:
                    self.peak[node] = max(self.peak[node], node.resident())
                except (OSError, IndexError):
                    return

    def __exit__(self, *_):
        self.seconds = time.time() - self.began
        self.stopped.set()
        self.thread.join(10)

    def grown(self):
        """By how much the memory of any node grew at most, MiB."""
        return max(self.peak[node] - self.before[node] for node in self.cluster.nodes) / 2**20

    def lines(self, node):
        """What the node logged meanwhile."""
        return node.log()[self.logged[node] :].splitlines()
