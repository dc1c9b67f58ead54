"""The shm without passthrough, as on kernels before 6.9: shared through the daemon's own mount."""

import signal

import pytest
from devcluster import LOG_SCHEMA

NAMES = ["one.db", "two.db"]


@pytest.fixture(scope="module")
def settings():
    return {"passthrough: auto": "passthrough: off"}


def test_the_daemon_never_waits_for_itself(cluster):
    """bounded-answer: several databases written on every node, and a node stopped in between, with
    applications still there."""
    for name in NAMES:
        cluster.create(name, *LOG_SCHEMA)
    node = cluster.followers()[0]
    with (
        cluster.writing(NAMES[0], *cluster.nodes) as ones,
        cluster.writing(NAMES[1], *cluster.nodes) as twos,
    ):
        cluster.kill(node, signal.SIGTERM)
        cluster.restart(node)
    assert "passthrough=false" in node.log()
    cluster.check_log(NAMES[0], ones)
    cluster.check_log(NAMES[1], twos)
