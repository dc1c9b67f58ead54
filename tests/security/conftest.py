"""Fixtures of the security tests: a cluster in network namespaces, and who attacks it from outside.

pytest tests/security           needs root, /dev/fuse, ip, nsenter and nft
LITEFS_PY=/path/to/litefs-py    another program than target/debug/litefs-py
"""

import resource
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CLUSTER = HERE.parent / "cluster"
sys.path[:0] = [str(HERE), str(CLUSTER)]

from certificates import Authority  # noqa: E402
from cluster_fixtures import (  # noqa: E402, F401
    PROGRAM,
    measured,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_terminal_summary,
)
from devcluster import LOG_SCHEMA, wait_for  # noqa: E402
from fenced import Fenced, Watch  # noqa: E402

# What any attack here may cost a node, MiB. One that were answered with what it asks for would cost
# hundreds.
MEMORY = 96
# Lines that one kind of attack may leave in a node's log: one, and one each ten seconds.
LINES = 3


@pytest.fixture(scope="session")
def fenced(tmp_path_factory):
    for program in ("ip", "nsenter", "nft", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}")
    # For thousands of connections.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    cluster = Fenced(tmp_path_factory.mktemp("fenced") / "dev", PROGRAM)
    try:
        cluster.start()
        cluster.create("app.db", "PRAGMA journal_mode = wal", *LOG_SCHEMA)
        yield cluster
        assert not cluster.dead()
        cluster.same("app.db")
    finally:
        cluster.clear()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not cluster.leftovers()


@pytest.fixture(scope="session")
def writers(fenced):
    """Applications that write all the time, on two nodes."""
    with fenced.writing("app.db", *fenced.nodes[:2], pause=0.005) as writers:
        yield writers


@pytest.fixture
def attack(fenced, writers, measured, request):  # noqa: F811 (the imported fixture)
    """What an attack must not do, whatever comes of it: stop the cluster from committing, end a node,
    cost memory, or fill the log. Answers what watches the nodes."""
    with Watch(fenced) as watch:
        yield watch
    end = watch.began + watch.seconds
    wait_for(lambda: all(w.after(end) for w in writers), 10, "a commit after the attack")
    gap = max(w.gap(watch.began) for w in writers)
    during = sum(w.after(watch.began) for w in writers)
    measured(
        f"{request.node.name}: {watch.seconds:.1f} s, {during} commits, longest pause {gap:.2f} s, "
        f"memory +{watch.grown():.1f} MiB"
    )
    assert not fenced.dead(), "a node ended"
    assert [w.failures() for w in writers] == [[], []]
    assert watch.grown() < MEMORY
    for node in fenced.nodes:
        refusals = [line for line in watch.lines(node) if " WARN " in line or " ERROR " in line]
        assert len(refusals) <= LINES + watch.seconds / 10, refusals[:20]


@pytest.fixture(scope="session")
def authority(fenced):
    """The cluster's own CA."""
    return Authority(fenced.folder / "ca")
