"""What every folder of tests of real daemons gives its conftest: the skips, the figures, and clusters by
`litefs-py dev`. A conftest cannot be imported by its name beside another one; this can."""

import os
from pathlib import Path

import pytest
from devcluster import ROOT, Cluster

PROGRAM = Path(os.environ.get("LITEFS_PY", ROOT / "target/debug/litefs-py"))


def why_not():
    if os.geteuid() != 0:
        return "must be root, to mount and to clear what is left behind"
    if not Path("/dev/fuse").exists():
        return "there is no /dev/fuse"
    if not PROGRAM.exists():
        return f"there is no {PROGRAM}: cargo build"
    return None


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: only with LITEFS_PY_SLOW=1")


def pytest_collection_modifyitems(items):
    reason = why_not()
    for item in items:
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
        elif "slow" in item.keywords and not os.environ.get("LITEFS_PY_SLOW"):
            item.add_marker(pytest.mark.skip(reason="slow: only with LITEFS_PY_SLOW=1"))


def pytest_terminal_summary(terminalreporter):
    """Says why something was skipped, also without -rs; and what was measured."""
    for report in terminalreporter.stats.get("skipped", []):
        terminalreporter.write_line(f"SKIPPED {report.nodeid}: {report.longrepr[2]}")
    for line in MEASURED:
        terminalreporter.write_line(f"MEASURED {line}")


MEASURED = []


@pytest.fixture
def measured():
    """Figures are reported, not asserted: machines differ."""
    return MEASURED.append


@pytest.fixture(scope="module")
def make_cluster(tmp_path_factory):
    """Starts clusters, and takes them down after the file's last test."""
    clusters = []

    def make(**options):
        cluster = Cluster(tmp_path_factory.mktemp("cluster") / "dev", program=PROGRAM, **options)
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
def settings():
    """Lines of the nodes' configuration to replace; a file of tests may say others."""
    return {}


@pytest.fixture(scope="module")
def shared_cluster(make_cluster, settings):
    return make_cluster(settings=settings)


@pytest.fixture
def cluster(shared_cluster, request):
    """Three nodes; healthy before each test, healed after it."""
    shared_cluster.heal()
    yield shared_cluster
    shared_cluster.heal()


@pytest.fixture
def db(request):
    """A database name of this test's own, so that tests of one cluster do not meet."""
    return f"{request.node.name.translate(str.maketrans('[]/ ', '----'))}.db"
