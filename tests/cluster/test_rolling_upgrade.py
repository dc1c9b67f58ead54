"""Two versions in one cluster, one step apart, and the way from one to the other under load.

LITEFS_PY_EARLIER=/path/to/an/earlier/litefs-py    `make torture PART=upgrade` builds it from history
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cluster_fixtures import PROGRAM
from devcluster import Cluster, Node, Writer, die_with_parent, end_process, wait_for

EARLIER = os.environ.get("LITEFS_PY_EARLIER")

pytestmark = pytest.mark.skipif(
    not EARLIER, reason="needs an earlier version: LITEFS_PY_EARLIER (make torture PART=upgrade)"
)


class Upgraded(Node):
    """A node whose program changes."""

    def begin(self, program):
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen(
                [program, "node", "--config", self.folder / "config.yml"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        self.pid = self.process.pid

    def run(self, program):
        self.begin(program)
        wait_for(self.is_ready, 60, f"{self} by {program}")

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        assert end_process(self.process, 60) == 0

    def version(self):
        return self.ask("/cluster")[1]["version"]


@pytest.fixture
def nodes(tmp_path):
    """Three nodes as the earlier version sets them up and runs them."""
    cluster = Cluster(tmp_path / "dev", program=EARLIER)
    try:
        told = cluster.start().told()
        cluster.stop()
        made = [Upgraded(cluster.folder, one) for one in told]
        for node in made:
            node.process = None
        yield made
        for node in made:
            if node.process is not None and node.process.poll() is None:
                node.end()
        assert not cluster.leftovers()
    finally:
        for node in made:
            if node.process is not None and node.process.poll() is None:
                node.process.kill()
        cluster.clear()


def start_all(nodes, program):
    for node in nodes:
        node.begin(program)
    wait_for(lambda: all(node.is_ready() for node in nodes), 60, "all nodes")


def test_a_rolling_upgrade_loses_nothing_and_fails_no_statement_elsewhere(nodes, tmp_path):
    """And back again, one step, as long as nothing new was used."""
    start_all(nodes, EARLIER)
    nodes[0].sql("app.db", "CREATE TABLE log(who TEXT, k INTEGER)")
    for programs in (PROGRAM, Path(EARLIER), PROGRAM):
        for node in nodes:
            other = next(one for one in nodes if one is not node)
            writer = Writer(
                other.db("app.db"), f"{programs.parent}-{node}", tmp_path / f"{time.time()}"
            )
            wait_for(lambda w=writer: len(w.acknowledged()) > 10, 20, "rows")
            node.end()
            node.run(programs)
            back = time.time()
            wait_for(lambda w=writer, t=back: w.after(t) > 10, 20, "rows with both versions")
            writer.stop()
            assert not writer.failures(), writer.failures()
            # Each version shows all, and takes the lead from the other one.
            node.barrier()
            code, _ = node.ask("/readiness")
            assert code == 200
            rows = {
                k for (k,) in node.sql("app.db", f"SELECT k FROM log WHERE who = '{writer.who}'")
            }
            assert writer.acknowledged() <= rows
            node.sql("app.db", f"INSERT INTO log VALUES ('by {node}', 1)")
    contents = set()
    for node in nodes:
        node.barrier()
        contents.add(json.dumps(node.content("app.db")))
    assert len(contents) == 1


def test_what_only_the_newer_version_knows_waits_for_all(nodes):
    start_all(nodes, EARLIER)
    nodes[0].end()
    nodes[0].run(PROGRAM)

    def create():
        command = [PROGRAM, "token", "create", "--config", nodes[0].folder / "config.yml"]
        return subprocess.run(command, capture_output=True, text=True, timeout=30)

    refused = create()
    assert refused.returncode != 0 and refused.stdout == "", refused
    assert any(words in refused.stderr for words in ("upgrade all nodes first", "no method")), (
        refused
    )
    nodes[1].sql("app.db", "CREATE TABLE t(x)")
    for node in nodes[1:]:
        node.end()
        node.run(PROGRAM)
    # The configuration is of before, and names no key of the CA.
    assert "mesh.tls.ca_key" in create().stderr
