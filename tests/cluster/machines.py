"""Nodes that are set up as an operator does it: `litefs-py init`, `token create`, `join`, `node`. Each has a
folder of its own, as if it were a machine. Standard library only.
"""

import json
import os
import random
import signal
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

from devcluster import (
    LONG,
    Node,
    die_with_parent,
    end_process,
    is_alive,
    mounts_below,
    run,
    wait_for,
)

# Those of sysexits(3) that these commands end with.
USAGE, NO_INPUT, UNAVAILABLE, SOFTWARE, CANNOT_CREATE, IO = 64, 66, 69, 70, 73, 74
TRY_AGAIN, NO_PERMISSION, CONFIG = 75, 77, 78


def free_port():
    """Below what the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Machine(Node):
    """One node, by its own commands."""

    def __init__(self, folder, name, program):
        self.program, self.name, self.folder = program, name, Path(folder) / name
        self.folder.mkdir()
        self.mesh = f"127.0.0.1:{free_port()}"
        self.api_port = free_port()
        self.api = f"http://127.0.0.1:{self.api_port}"
        self.mount, self.data = self.folder / "mount", self.folder / "data"
        self.config = self.folder / "config.yml"
        self.process, self.pid = None, None
        self.killed = self.paused = False
        # Of its programs, besides what everybody has.
        self.environment = {}

    def cli(self, *arguments, check=False, deadline=LONG):
        environment = {**os.environ, **self.environment}
        return run(self.program, *arguments, check=check, deadline=deadline, env=environment)

    def ask_cli(self, *arguments, check=True):
        """A command that asks this node."""
        return self.cli(*arguments, "--config", self.config, check=check)

    def answer(self, *arguments):
        return json.loads(self.ask_cli(*arguments, "--json").stdout)

    def place(self):
        return [
            "--name", self.name, "--address", self.mesh, "--config", self.config,
            "--data-dir", self.data, "--mount", self.mount,
        ]  # fmt: skip

    def init(self, cluster="test", **settings):
        self.cli("init", "--cluster", cluster, *self.place(), check=True)
        return self.configure(**settings)

    def join(self, token, *servers, check=False, replace=False, **settings):
        """`servers`: machines, or addresses."""
        asked = [getattr(server, "mesh", server) for server in servers]
        command = ["join", token, "--server", ",".join(asked), *self.place()]
        done = self.cli(*command, *(["--replace"] if replace else []), check=check)
        if done.returncode == 0 and not replace:
            self.configure(**settings)
        return done

    def configure(self, **settings):
        """What keeps nodes of one machine apart; and lines to add beneath a key."""
        text = self.config.read_text()
        settings = {
            "api": [f"listen: 127.0.0.1:{self.api_port}", f"socket: {self.folder / 'api.sock'}"],
            "mount": ["immutable: off"],
            **settings,
        }
        for key, lines in settings.items():
            block = "".join(f"  {line}\n" for line in lines)
            if f"{key}:\n" in text:
                text = text.replace(f"{key}:\n", f"{key}:\n{block}", 1)
            else:
                text += f"{key}:\n{block}"
        self.config.write_text(text)
        return self

    def start(self, ready=True):
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen(
                [self.program, "node", "--config", self.config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                preexec_fn=die_with_parent,
            )
        self.pid, self.killed = self.process.pid, False
        if ready:
            wait_for(self.serves, 60, f"{self.name} to serve: {self.log()[-2000:]}")
        return self

    def serves(self):
        assert self.process.poll() is None, f"{self.name} ended: {self.log()[-2000:]}"
        return self.is_ready()

    def stop(self, how=signal.SIGTERM):
        """The exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            os.kill(self.pid, how)
        self.killed = True
        return end_process(self.process, 60)

    def ends(self, deadline=30):
        """Waits until it ends by itself; the exit code."""
        wait_for(lambda: self.process.poll() is not None, deadline, f"the end of {self.name}")
        self.killed = True
        return self.process.returncode

    def cli_sqlite(self, name, statement):
        return run("sqlite3", self.db(name), statement, check=False)

    def members(self):
        """Name and role, as this node sees them."""
        code, members = self.ask("/members")
        return {member["name"]: member["role"] for member in members} if code == 200 else {}

    def clear(self):
        if self.process is not None and is_alive(self.pid):
            self.process.kill()
            end_process(self.process, 60)
        for path in mounts_below(self.folder):
            subprocess.run(["umount", "-l", path], check=False, timeout=30)


@contextmanager
def taken_down(made):
    """Whatever machines the list has at the end: stopped in order, and cleared if that fails."""
    try:
        yield made
    finally:
        try:
            for one in reversed(made):
                one.stop()
        finally:
            for one in made:
                one.clear()


def token(machine, *options):
    """A new one. While there is no leader, the command says so, and is given again."""

    def made():
        done = machine.ask_cli("token", "create", *options, check=False)
        assert done.returncode in (0, TRY_AGAIN), done.stderr
        return done.stdout.strip()

    return wait_for(made, 30, "a token")
