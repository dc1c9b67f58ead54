"""Fixtures of the tests of `engine: litefs`: a real LiteFS, real daemons, real mounts.

    LITEFS_PY_TEST_LITEFS=/path/to/litefs pytest tests/litefs

Without a LiteFS (that variable, or on PATH) they are skipped, and counted.
"""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "cluster")]

import cluster_fixtures  # noqa: E402
from cluster_fixtures import (  # noqa: E402, F401
    PROGRAM,
    measured,
    pytest_configure,
    pytest_terminal_summary,
)
from devcluster import LOG_SCHEMA  # noqa: E402
from litefs_cluster import LitefsCluster, find_litefs  # noqa: E402


def pytest_collection_modifyitems(items):
    cluster_fixtures.pytest_collection_modifyitems(items)
    reason = find_litefs()[1]
    if reason:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def litefs():
    return find_litefs()[0]


@pytest.fixture(scope="module")
def make_cluster(tmp_path_factory, litefs):
    """Starts clusters, and takes them down after the file's last test."""
    clusters = []

    def make(**options):
        folder = tmp_path_factory.mktemp("litefs") / "dev"
        cluster = LitefsCluster(folder, litefs, program=PROGRAM, **options)
        clusters.append(cluster)
        return cluster.start()

    yield make
    problems = []
    for cluster in clusters:
        try:
            code = cluster.stop()
            problems += [f"litefs-py dev ended with {code}"] if code else []
            problems += cluster.leftovers()
        finally:
            cluster.clear()
    assert not problems, f"left behind: {problems}"


@pytest.fixture(scope="module")
def shared_cluster(make_cluster):
    return make_cluster()


@pytest.fixture
def cluster(shared_cluster):
    """Three nodes; healthy before each test, healed after it."""
    shared_cluster.heal()
    yield shared_cluster
    shared_cluster.heal()


@pytest.fixture
def db(request, cluster):
    """A database of this test's own, on every node."""
    name = f"{request.node.name.translate(str.maketrans('[]/ ', '----'))}.db"
    cluster.create(name, *LOG_SCHEMA)
    return name
