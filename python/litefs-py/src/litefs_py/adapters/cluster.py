"""A whole cluster on this machine, by `litefs-py dev`: for tests, and to develop with.

Its nodes are real processes with real mounts. Killing and pausing is done by signals.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

from litefs_py.adapters.binary import find_litefs, find_program
from litefs_py.adapters.connection import Connection, connect
from litefs_py.adapters.http.client import Client
from litefs_py.adapters.mount import Mount
from litefs_py.adapters.processes import spawn, stop
from litefs_py.domain.errors import ApiError, LitefsError, NodeDown, WaitTimeout

T = TypeVar("T")
_STEP = 0.02


def wait_for(condition: Callable[[], T], timeout: float, what: str) -> T:
    """What `condition` returns, once that is true; `WaitTimeout` when it is not in time."""
    end = time.monotonic() + timeout
    while not (result := condition()):
        if time.monotonic() > end:
            raise WaitTimeout(f"not within {timeout:g} s: {what}")
        time.sleep(_STEP)
    return result


class ClusterNode:
    """One node. Its process changes with each restart, the rest stays."""

    def __init__(self, folder: Path, told: Mapping[str, Any]) -> None:
        self.name: str = told["name"]
        self.pid: int = told["pid"]
        self.api: str = told["api"]
        self.socket = f"unix:{folder / self.name / 'api.sock'}"
        self.mount = Mount(told["mount"], self.api)
        # By the Unix socket, which needs no token.
        self.client = Client(self.socket)
        self.paused = False

    def __repr__(self) -> str:
        return f"<node {self.name}>"

    def connect(self, name: str, **options: Any) -> Connection:
        """A connection to a database on this node's mount."""
        return connect(self.mount.file(name), mount=self.mount, **options)

    def is_alive(self) -> bool:
        """Whether its process runs, or is paused."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] not in "ZX"

    def check(self, which: str) -> bool:
        """A health check: `primary`, `readiness`, …"""
        try:
            return self.client.health(which).ok
        except (NodeDown, WaitTimeout, ApiError):
            return False


class Cluster:
    """`with Cluster(folder) as cluster:` starts it, or goes on with what is in the folder."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        nodes: int = 3,
        *,
        program: str | Path | None = None,
        engine: Literal["embedded", "litefs"] = "embedded",
        settings: Mapping[str, Any] | None = None,
        timeout: float = 60.0,
    ) -> None:
        """`settings`: changes to each node's configuration, as `{"write": {"commit_timeout": "1s"}}`.

        `engine="litefs"`: with a LiteFS that `LITEFS_PY_TEST_LITEFS` names, or that is on PATH.
        """
        self.folder, self.engine = Path(folder).resolve(), engine
        self.count, self.settings, self.timeout = nodes, settings, timeout
        self._program = program
        self._dev: subprocess.Popen[bytes] | None = None
        self.nodes: list[ClusterNode] = []

    def start(self) -> Cluster:
        """Returns when all nodes serve."""
        if self.settings:
            self._configure(self.settings)
        self._spawn()
        wait_for(self._is_ready, self.timeout, f"a cluster in {self.folder}: {self.output()}")
        self.nodes = [ClusterNode(self.folder, told) for told in self._told()]
        return self

    def stop(self) -> None:
        """All nodes, in order. No mount and no process stays."""
        for node in self.nodes:
            self.resume(node)
            node.client.close()
            node.mount.client.close()
        code = self._end_dev()
        if code:
            raise LitefsError(f"litefs-py dev ended with {code}: {self.output()}")

    def output(self) -> str:
        """The last of what `litefs-py dev` said."""
        try:
            return self._log.read_text(errors="replace")[-2000:].strip()
        except OSError:
            return ""

    def __enter__(self) -> Cluster:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # Nodes

    def node(self, name: str) -> ClusterNode:
        """By its name."""
        return next(node for node in self.nodes if node.name == name)

    def leader(self, timeout: float = 15.0) -> ClusterNode:
        """The node that leads; waits until there is one."""

        def leading() -> list[ClusterNode]:
            return [n for n in self.nodes if not n.paused and n.is_alive() and n.check("primary")]

        return wait_for(leading, timeout, "a leader")[0]

    def followers(self) -> list[ClusterNode]:
        """The nodes that run and do not lead."""
        leader = self.leader()
        return [n for n in self.nodes if n is not leader and not n.paused and n.is_alive()]

    # Faults

    def kill(self, node: ClusterNode, how: int = signal.SIGKILL) -> None:
        """Returns when the process is gone."""
        os.kill(node.pid, how)
        wait_for(lambda: not node.is_alive(), 30, f"the end of {node.name}")

    def pause(self, node: ClusterNode) -> None:
        """SIGSTOP: it is there, and does nothing. Whoever touches its mount waits."""
        os.kill(node.pid, signal.SIGSTOP)
        node.paused = True

    def resume(self, node: ClusterNode) -> None:
        """SIGCONT."""
        if node.paused:
            with suppress(ProcessLookupError):
                os.kill(node.pid, signal.SIGCONT)
            node.paused = False

    def restart(self, node: ClusterNode, timeout: float = 60.0) -> None:
        """Starts it again, and waits until it is ready."""
        self.resume(node)
        command = [self.program, "dev", "--dir", self.folder, "restart", node.name]
        done = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if done.returncode:
            raise LitefsError(f"restart of {node.name}: {done.stderr.strip()}")
        node.pid = next(told["pid"] for told in self._told() if told["name"] == node.name)

    def heal(self, timeout: float = 60.0) -> None:
        """Everybody runs, there is a leader, all are ready."""
        for node in self.nodes:
            self.resume(node)
        for node in self.nodes:
            if not node.is_alive():
                self.restart(node, timeout)
        wait_for(lambda: all(n.check("readiness") for n in self.nodes), timeout, "all nodes ready")
        self.leader()

    def settle(self, database: str, timeout: float = 20.0) -> None:
        """Waits until all nodes that run are at the same position (converges)."""

        def same() -> bool:
            running = [n for n in self.nodes if not n.paused and n.is_alive()]
            found = {n.mount.position(database) for n in running}
            return len(found) == 1 and None not in found

        wait_for(same, timeout, f"one position of {database} on all nodes")

    # Within

    @property
    def program(self) -> Path:
        """`litefs-py`."""
        return Path(self._program or find_program())

    @property
    def _log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    def _spawn(self) -> None:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        command = [self.program, "dev", "--dir", self.folder, "--nodes", str(self.count)]
        path = None
        if self.engine == "litefs":
            command += ["--engine", "litefs"]
            path = self._folder_with_litefs()
        with self._log.open("ab") as output:
            self._dev = spawn([str(part) for part in command], output, path)

    def _folder_with_litefs(self) -> Path:
        """The nodes look for `litefs` on PATH; ours may have another name."""
        path = self.folder.with_name(f"{self.folder.name}.bin")
        path.mkdir(exist_ok=True)
        link = path / "litefs"
        link.unlink(missing_ok=True)
        link.symlink_to(find_litefs().absolute())
        return path

    def _end_dev(self) -> int:
        dev, self._dev = self._dev, None
        return 0 if dev is None else stop(dev, 60)

    def _is_ready(self) -> bool:
        if self._dev is None or self._dev.poll() is not None:
            raise LitefsError(f"litefs-py dev ended: {self.output()}")
        return (self.folder / "ready.json").exists()

    def _told(self) -> list[dict[str, Any]]:
        told = json.loads((self.folder / "ready.json").read_text())
        return list(told["nodes"])

    def _configure(self, settings: Mapping[str, Any]) -> None:
        """The configurations are made by a first start."""
        from litefs_py.adapters.config import files

        made = self.folder / "dev.json"
        if not made.exists():
            self._spawn()
            wait_for(lambda: self._is_ready() or made.exists(), self.timeout, "dev.json")
            self._end_dev()
        for path in self.folder.glob("n*/config.yml"):
            config = files.load(path).model_dump(exclude_defaults=True)
            for section, values in settings.items():
                if isinstance(values, Mapping):
                    config[section] = {**config.get(section, {}), **values}
                else:
                    config[section] = values
            files.save(files.parse(config), path)
