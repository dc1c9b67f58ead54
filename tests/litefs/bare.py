"""A LiteFS alone, and a Consul whose answers the test decides: to see what LiteFS really does."""

import base64
import contextlib
import http.client
import json
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from devcluster import die_with_parent, wait_for


class Consul:
    """Answers as Consul does, unless `answer` is set: a function of (method, path, query, body) that
    returns (status, text), or None for the usual answer. Writes down everything that it is asked."""

    def __init__(self):
        self.asked, self.values, self.sessions = [], {}, set()
        self.answer, self.holder, self.lock = None, None, threading.Lock()
        consul = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path, _, query = self.path.partition("?")
                consul.asked.append((time.monotonic(), self.command, self.path, body))
                told = consul.answer and consul.answer(self.command, path, query, body)
                status, text = told or consul.usual(self.command, path, query, body)
                payload = text.encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(payload)))
                    self.end_headers()
                    self.wfile.write(payload)
                except OSError:
                    pass

            do_GET = do_PUT = handle_any

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://x:token@127.0.0.1:{self.server.server_address[1]}"

    def usual(self, method, path, query, body):
        with self.lock:
            if path.startswith("/v1/session/create"):
                session = f"s{len(self.asked)}"
                self.sessions.add(session)
                return 200, json.dumps({"ID": session})
            if path.startswith("/v1/session/renew/"):
                known = path.rsplit("/", 1)[1] in self.sessions
                return (200, "[{}]") if known else (404, "")
            if path.startswith("/v1/session/destroy/"):
                self.sessions.discard(path.rsplit("/", 1)[1])
                return 200, "true"
            key = path.removeprefix("/v1/kv/")
            if method == "GET":
                if key not in self.values:
                    return 404, ""
                return 200, json.dumps([{"Value": base64.b64encode(self.values[key]).decode()}])
            if query.startswith("acquire="):
                session = query.removeprefix("acquire=").partition("&")[0]
                if self.holder not in (None, session):
                    return 200, "false"
                self.holder, self.values[key] = session, body
                return 200, "true"
            if query.startswith("release="):
                if self.holder == query.removeprefix("release=").partition("&")[0]:
                    self.holder = None
                    self.values.pop(key, None)
                    return 200, "true"
                return 200, "false"
            self.values[key] = body
            return 200, "true"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Bare:
    """One LiteFS in a folder."""

    def __init__(self, binary, folder, consul, name="n1", ttl="2s"):
        self.binary, self.folder, self.name = binary, Path(folder), name
        self.port, self.mount = free_port(), self.folder / "mount"
        self.data = self.folder / "data"
        self.config = self.folder / "litefs.yml"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            json.dumps(
                {
                    "data": {"dir": str(self.data)},
                    "fuse": {"dir": str(self.mount)},
                    "http": {"addr": f"127.0.0.1:{self.port}"},
                    "lease": {
                        "type": "consul",
                        "hostname": name,
                        "advertise-url": f"http://127.0.0.1:{self.port}",
                        "candidate": True,
                        "reconnect-delay": "100ms",
                        "consul": {
                            "url": consul.url,
                            "key": "litefs/primary",
                            "ttl": ttl,
                            "lock-delay": "1ms",
                        },
                    },
                }
            )
        )
        self.process = None

    def start(self):
        output = open(self.folder / "log", "ab")  # noqa: SIM115
        self.process = subprocess.Popen(
            [self.binary, "mount", "-no-expand-env", "-config", self.config],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent,
        )
        output.close()
        wait_for(lambda: self.info() is not None, 20, "LiteFS's HTTP")
        return self

    def ask(self, path, method="GET", headers=None, timeout=10.0):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def info(self):
        try:
            return json.loads(self.ask("/info", timeout=2)[2])
        except (OSError, http.client.HTTPException, ValueError):
            return None

    def is_primary(self):
        return bool((self.info() or {}).get("isPrimary"))

    def primary(self, deadline=10):
        wait_for(self.is_primary, deadline, f"{self.name} to be primary")
        return self

    def open(self, database, timeout=5):
        return sqlite3.connect(f"{self.mount}/{database}", timeout=timeout, isolation_level=None)

    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(how)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(15)
        subprocess.run(["umount", "-l", self.mount], check=False, stderr=subprocess.DEVNULL)
        return self.process.returncode if self.process else None


@contextlib.contextmanager
def bare(binary, folder, nodes=1, ttl="2s"):
    """A Consul and some LiteFS; the first is primary."""
    consul, started = Consul(), []
    try:
        for number in range(1, nodes + 1):
            started.append(
                Bare(binary, Path(folder) / f"n{number}", consul, f"n{number}", ttl).start()
            )
            started[0].primary()
        yield consul, *started
    finally:
        for one in started:
            one.stop(signal.SIGKILL)
        consul.close()


def position(mount, database):
    text = (Path(mount) / f"{database}-pos").read_text().strip()
    return text
