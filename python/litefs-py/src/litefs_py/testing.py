"""A pytest plugin: real clusters for tests, on this machine. Installed with `litefs-py`; nothing to load.

    def test_survives(litefs_cluster):
        with litefs_cluster.leader().connect("app.db") as connection:
            connection.execute("CREATE TABLE t(x)")
        litefs_cluster.kill(litefs_cluster.leader())
        …

`litefs_cluster` (`litefs_py.cluster.Cluster`) has three nodes, which all tests of a session share; each test gets
it whole again, and makes databases of its own (`litefs_database` is a name for one). `litefs_node` is the leader of
a cluster of one. `litefs_primary_cluster` has three nodes with LiteFS as the engine, where only the primary writes. Without
FUSE, or without a program, such tests are skipped, with the reason.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from litefs_py.adapters.cluster import Cluster, ClusterNode


Engine = Literal["embedded", "litefs"]


def why_not(engine: Engine = "embedded") -> str | None:
    """Why there can be no cluster here; none if there can."""
    from litefs_py.adapters.binary import find_litefs, find_program
    from litefs_py.domain.errors import BinaryNotFound

    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "no /dev/fuse that this user may open"
    try:
        find_program()
        if engine == "litefs":
            find_litefs()
    except BinaryNotFound as error:
        return str(error)
    return None


def _start(folder: Path, nodes: int, engine: Engine = "embedded") -> Iterator[Cluster]:
    from litefs_py.adapters.cluster import Cluster

    reason = why_not(engine)
    if reason:
        pytest.skip(reason)
    cluster = Cluster(folder, nodes, engine=engine)
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def litefs_shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster behind `litefs_cluster`; for fixtures of a longer life, which leave it whole."""
    yield from _start(tmp_path_factory.mktemp("litefs") / "three", 3)


@pytest.fixture
def litefs_cluster(litefs_shared_cluster: Cluster) -> Iterator[Cluster]:
    """Three nodes, all of them well, before each test and after it."""
    litefs_shared_cluster.heal()
    yield litefs_shared_cluster
    litefs_shared_cluster.heal()


@pytest.fixture(scope="session")
def litefs_shared_primary_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster behind `litefs_primary_cluster`."""
    yield from _start(tmp_path_factory.mktemp("litefs") / "primary", 3, "litefs")


@pytest.fixture
def litefs_primary_cluster(litefs_shared_primary_cluster: Cluster) -> Iterator[Cluster]:
    """Three nodes with LiteFS as the engine: only `leader()` writes."""
    litefs_shared_primary_cluster.heal()
    yield litefs_shared_primary_cluster
    litefs_shared_primary_cluster.heal()


@pytest.fixture(scope="session")
def litefs_shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster of one behind `litefs_node`."""
    yield from _start(tmp_path_factory.mktemp("litefs") / "one", 1)


@pytest.fixture
def litefs_node(litefs_shared_node: Cluster) -> ClusterNode:
    """The one node of a cluster of one: quick to start, and enough where nothing fails."""
    litefs_shared_node.heal()
    return litefs_shared_node.leader()


@pytest.fixture
def litefs_database(request: pytest.FixtureRequest) -> str:
    """A name of this test's own, so that tests of one cluster do not meet."""
    digest = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", request.node.name)[:80] + f"-{digest}.db"
