"""What both examples run in: a cluster of three nodes, a server of the application on each, nginx in front.

    with Balanced(folder, command, environment) as site:
        print(site.url)

nginx is Debian's, and knows nothing of the cluster. It asks another server when one does not answer, or answers 503:
that is what our middleware says when nothing was committed, so that also a POST may be sent again.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from litefs_py.cluster import Cluster, ClusterNode, wait_for

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log;
events {{ worker_connections 512; }}
http {{
  access_log off; proxy_temp_path {folder}/t1; client_body_temp_path {folder}/t2;
  fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  upstream application {{
    {servers}
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://application;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_connect_timeout 1s;
      proxy_next_upstream {retries};
    }}
  }}
}}
"""
RETRIES = "error timeout http_502 http_503 non_idempotent"


def free_port() -> int:
    """Of this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Balanced:
    """`command`: of a server, with {address} in it; `environment`: what it is told about its node."""

    def __init__(
        self,
        folder: Path,
        command: list[str],
        environment: Callable[[ClusterNode], dict[str, str]],
        prepare: Callable[[ClusterNode], None],
        retries: bool = True,
    ) -> None:
        self.folder, self.command, self.environment = folder, command, environment
        self.prepare, self.retries = prepare, RETRIES if retries else "off"
        self.cluster = Cluster(folder / "cluster")
        self.ports = {name: free_port() for name in ("n1", "n2", "n3")}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        self.nginx: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Balanced:
        try:
            self.cluster.start()
            self.prepare(self.cluster.leader())
            for node in self.cluster.nodes:
                self.serve(node)
            self.balance()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in [self.nginx, *self.servers.values()]:
            if process is not None:
                end(process)
        self.cluster.heal()
        self.cluster.stop()

    def serve(self, node: ClusterNode) -> None:
        """Starts the application on a node."""
        address = f"127.0.0.1:{self.ports[node.name]}"
        command = [
            part.format(address=address, port=address.split(":")[1]) for part in self.command
        ]
        with (self.folder / f"server-{node.name}.log").open("ab") as log:
            self.servers[node.name] = subprocess.Popen(
                [sys.executable, "-m", *command],
                env={**os.environ, **self.environment(node)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(lambda: answers(f"http://{address}"), 60, f"the server on {node.name}")

    def balance(self) -> None:
        """nginx in front of all three."""
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            raise SystemExit("no nginx: apt-get install nginx")
        servers = [
            f"server 127.0.0.1:{port} max_fails=1 fail_timeout=1s;" for port in self.ports.values()
        ]
        text = NGINX.format(
            folder=self.folder, servers=" ".join(servers), port=self.port, retries=self.retries
        )
        (self.folder / "nginx.conf").write_text(text)
        self.nginx = subprocess.Popen(
            [
                program,
                "-c",
                str(self.folder / "nginx.conf"),
                "-e",
                str(self.folder / "nginx-error.log"),
            ],
            start_new_session=True,
        )
        wait_for(lambda: answers(self.url), 30, "nginx")

    def kill(self, node: ClusterNode) -> None:
        """The machine is gone: its daemon, and its application."""
        os.killpg(self.servers[node.name].pid, signal.SIGKILL)
        self.servers.pop(node.name).wait()
        self.cluster.kill(node)

    def restart(self, node: ClusterNode) -> None:
        """It comes back."""
        self.cluster.restart(node)
        self.serve(node)


def end(process: subprocess.Popen[bytes]) -> None:
    """In order, and if need be by force."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


def answers(url: str) -> bool:
    """Whether anything does."""
    try:
        urllib.request.urlopen(f"{url}/health/liveness", timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
    return True


def stay(site: Balanced, what: str) -> None:
    """Until Ctrl-C."""
    print(f"{what} at {site.url}\nnodes below {site.cluster.folder}; Ctrl-C ends all", flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()
