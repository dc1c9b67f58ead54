"""Child processes that do not outlive whoever started them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

# What a service manager tells its own child only.
_PRIVATE = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


def spawn(
    command: Sequence[str | Path], output: IO[bytes] | int, path: Path | None = None
) -> subprocess.Popen[bytes]:
    """Starts a program that gets SIGTERM when the thread that called this ends. `path`: a folder to put before PATH.

    In a process group of its own: a Ctrl-C at the terminal is its parent's matter, who stops it in order.
    """
    environment = {key: value for key, value in os.environ.items() if key not in _PRIVATE}
    if path is not None:
        environment["PATH"] = f"{path}:{environment.get('PATH', os.defpath)}"
    return subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
        start_new_session=True,
        preexec_fn=_with_parent,
    )


def _with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def stop(process: subprocess.Popen[bytes], grace: float) -> int:
    """SIGTERM, and SIGKILL to its group after `grace` seconds. Answers its exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait(30)
