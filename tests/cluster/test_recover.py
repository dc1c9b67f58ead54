"""A cluster that lost its majority for good goes on from one survivor, by an explicit word."""

import json
import signal

import pytest
from cluster_fixtures import PROGRAM
from devcluster import wait_for
from machines import IO, USAGE, Machine, taken_down, token


@pytest.fixture
def three(tmp_path):
    made = [Machine(tmp_path, name, PROGRAM) for name in ("n1", "n2", "n3", "n4")]
    with taken_down(made):
        first = made[0].init().start()
        for node in made[1:3]:
            assert node.join(token(first), first).returncode == 0
            node.start()
            wait_for(lambda n=node: first.members().get(n.name) == "voter", 30, "its vote")
        yield made


def test_one_survivor_goes_on_alone(three):
    first, second, third, fourth = three
    second.sql("app.db", "CREATE TABLE t(x)", "INSERT INTO t VALUES (1), (2)")
    third.barrier()
    for node in (first, second):
        node.stop(signal.SIGKILL)

    recover = ["recover", "--config", third.config]
    running = third.cli(*recover)
    assert (running.returncode, "in use" in running.stderr) == (IO, True), running.stderr
    third.stop(signal.SIGKILL)
    before = {
        path: path.read_bytes() for path in (third.data / "raft").rglob("*") if path.is_file()
    }
    look = third.cli(*recover)
    assert look.returncode == USAGE and "nothing was changed" in look.stderr
    assert "app.db" in look.stdout and "n1, n2" in look.stdout
    assert before.keys() == {p for p in (third.data / "raft").rglob("*") if p.is_file()}

    done = third.cli(*recover, "--i-accept-data-loss", "--json", check=True)
    assert json.loads(done.stdout)["lost"] == ["n1", "n2"]
    recorded = json.loads((third.data / "recoveries").read_text())
    assert recorded["done"] and [name for name, *_ in recorded["databases"]] == ["app.db"]
    third.start()
    wait_for(lambda: third.members() == {"n3": "leader"}, 10, "it is alone")
    assert third.sql("app.db", "SELECT x FROM t") == [[1], [2]]
    third.sql("app.db", "INSERT INTO t VALUES (3)")

    # One of the lost ones comes back: it is not let in as it is.
    first.start(ready=False)
    wait_for(lambda: "does not know this node" in first.log(), 20, "its refusal")
    assert third.members() == {"n3": "leader"}
    assert fourth.join(token(third), third).returncode == 0
    fourth.start()
    wait_for(lambda: third.members().get("n4") == "voter", 30, "its vote")
    fourth.barrier()
    assert fourth.sql("app.db", "SELECT x FROM t") == [[1], [2], [3]]


def test_a_folder_of_nobody_is_refused(tmp_path):
    node = Machine(tmp_path, "n1", PROGRAM).init()
    done = node.cli("recover", "--config", node.config, "--i-accept-data-loss")
    assert (done.returncode, "holds nothing of node" in done.stderr) == (IO, True), done.stderr
    assert not node.data.exists()
