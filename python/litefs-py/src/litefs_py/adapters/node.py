"""Runs a node from Python: for containers where the application's process is the only one that is started.

The daemon is a child process. It is started again when it ends by itself, with pauses that grow; it is stopped in
order when the block ends, and gets SIGTERM when this process ends in whatever way.
"""

from __future__ import annotations

import logging
import queue
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType

from litefs_py.adapters.binary import find_program
from litefs_py.adapters.cluster import wait_for
from litefs_py.adapters.config import files
from litefs_py.adapters.config.models import Config
from litefs_py.adapters.http.client import Client
from litefs_py.adapters.mount import Mount
from litefs_py.adapters.processes import spawn, stop
from litefs_py.domain.errors import ApiError, LitefsError, NodeDown, WaitTimeout

log = logging.getLogger("litefs_py.node")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
# Who ran for this long has its mistakes forgiven.
_HEALTHY = 60.0
# A clean stop waits for write transactions to end, and hands the leadership over.
_GRACE = 30.0
# sysexits: the command line or the configuration is wrong, and will be at the next start as well.
_HOPELESS = {64, 77, 78}


class Node:
    """`with Node("/etc/litefs-py/config.yml") as node:` runs it; `node.mount` is where its databases are."""

    def __init__(
        self,
        config: str | Path = files.DEFAULT_FILE,
        *,
        program: str | Path | None = None,
        timeout: float = 60.0,
    ) -> None:
        self.file = Path(config)
        self.config: Config = files.load(self.file)
        self.mount = Mount(self.config.mount.path, f"unix:{self.config.api.socket}")
        self.client: Client = self.mount.client
        self.restarts = 0
        self._program, self._timeout = program, timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._problem: queue.Queue[LitefsError] = queue.Queue()

    def start(self) -> Node:
        """Returns when it is ready for work; `WaitTimeout` when it is not in time, with what it said."""
        if self._thread is not None:
            raise LitefsError("it was started already")
        program = Path(self._program or find_program())
        # PR_SET_PDEATHSIG goes by the thread that started the child, so one thread lives as long as it.
        self._thread = threading.Thread(
            target=self._supervise, args=(program,), name="litefs-py node", daemon=True
        )
        self._thread.start()
        try:
            wait_for(self._is_ready, self._timeout, f"{self.config.node.name} ready")
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """SIGTERM: it hands over and unmounts."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self.client.close()

    @property
    def pid(self) -> int | None:
        """Of the daemon that runs now."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def __enter__(self) -> Node:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _is_ready(self) -> bool:
        if not self._problem.empty():
            raise self._problem.get()
        try:
            return self.client.health("readiness").ok
        except (NodeDown, WaitTimeout, ApiError):
            return False

    def _supervise(self, program: Path) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            # Its messages go where ours go: standard error, or the journal by itself.
            try:
                process = self._process = spawn([program, "node", "--config", self.file], 2)
            except OSError as error:
                self._problem.put(LitefsError(f"{program}: {error.strerror}"))
                return
            while process.poll() is None and not self._stopping.wait(0.05):
                pass
            if self._stopping.is_set():
                code = stop(process, _GRACE)
                log.info("the node ended with %s", code)
                return
            if process.returncode in _HOPELESS:
                self._problem.put(
                    LitefsError(f"the node ended with {process.returncode}; see what it said")
                )
                return
            if time.monotonic() - began > _HEALTHY:
                pause = _FIRST_PAUSE
            log.warning("the node ended with %s; again in %.1f s", process.returncode, pause)
            self.restarts += 1
            self._stopping.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
