"""A cluster of one node to develop with, shared by all processes of a project that find it running."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Literal

from litefs_py.adapters.binary import find_program
from litefs_py.adapters.cluster import Cluster, wait_for
from litefs_py.adapters.http.client import Client
from litefs_py.adapters.mount import Mount
from litefs_py.domain.errors import ApiError, LitefsError, NodeDown, WaitTimeout

_START = 60.0

Engine = Literal["embedded", "litefs"]


def one_node(folder: str | os.PathLike[str], engine: Engine = "embedded") -> Mount:
    """The mount of the node in this folder, which is started when it does not run."""
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    # What one engine keeps the other cannot read.
    cluster = folder / ("cluster" if engine == "embedded" else f"cluster-{engine}")
    with open(folder / ".lock", "w") as lock:
        # Two processes at once: the second finds what the first started.
        fcntl.flock(lock, fcntl.LOCK_EX)
        mount = _running(cluster)
        if mount is not None:
            return mount
        (cluster / "ready.json").unlink(missing_ok=True)
        _start(cluster, engine)
        mount = _running(cluster)
    if mount is None:
        raise NodeDown(f"the node in {folder} does not answer")
    return mount


def _running(cluster: Path) -> Mount | None:
    try:
        told = json.loads((cluster / "ready.json").read_text())["nodes"][0]
    except (OSError, ValueError, LookupError):
        return None
    api = f"unix:{cluster / told['name'] / 'api.sock'}"
    with Client(api, timeout=2.0) as client:
        try:
            well = client.health("readiness").ok
        except (NodeDown, WaitTimeout, ApiError):
            return None
    return Mount(told["mount"], api) if well else None


def _start(folder: Path, engine: Engine) -> None:
    """By a thread that lives as long as this process: the node is told to end when its starter does."""
    cluster = Cluster(folder, 1, program=find_program(), engine=engine, timeout=_START)
    started, problem = threading.Event(), []

    def run() -> None:
        try:
            cluster.start()
        except LitefsError as error:
            problem.append(error)
            return
        finally:
            started.set()
        dev = cluster._dev
        if dev is not None:
            dev.wait()

    threading.Thread(target=run, name="litefs-py dev", daemon=True).start()
    wait_for(started.is_set, _START + 5, "the development node")
    if problem:
        raise problem[0]
