"""The daemon, run and supervised from Python; its configuration held against the daemon's own."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from litefs_py import LitefsError, SettingsError, WaitTimeout, connect, find_program, settings
from litefs_py.cluster import wait_for
from litefs_py.node import Node
from litefs_py.testing import why_not

TOOLS = Path(__file__).parents[3] / "tools"


@pytest.fixture(autouse=True)
def _possible():
    if reason := why_not():
        pytest.skip(reason)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def config(tmp_path):
    """A node of its own, as `litefs-py init` sets it up."""
    path, address = tmp_path / "config.yml", f"127.0.0.1:{free_port()}"
    command = [find_program(), "init", "--cluster", "app", "--name", "n1", "--address", address]
    command += ["--config", path, "--data-dir", tmp_path / "data", "--mount", tmp_path / "mount"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    made = settings.load(path)
    made.mesh.listen = address
    made.api.listen = f"127.0.0.1:{free_port()}"
    made.api.socket = str(tmp_path / "api.sock")
    made.mount.immutable = "off"
    settings.save(made, path)
    settings.check(made)
    return path


def test_models_are_the_daemons_own():
    said = subprocess.run([find_program(), "config", "schema"], capture_output=True, check=True)
    scope = {"__name__": "tool", "__file__": str(TOOLS / "settings.py")}
    exec((TOOLS / "settings.py").read_text(), scope)
    made = scope["models"](json.loads(said.stdout))
    assert made == scope["TARGET"].read_text(), "litefs-py config schema | uv run tools/settings.py"


def test_the_daemon_checks_more_than_types(config):
    wrong = settings.load(config)
    wrong.raft.election_timeout_min = "1ms"
    with pytest.raises(SettingsError, match="election_timeout_min"):
        settings.check(wrong)


def test_it_runs_and_is_started_again(config, caplog):
    caplog.set_level(logging.INFO)
    with Node(config) as node:
        connection = connect(node.mount.file("app.db"), mount=node.mount)
        with connection:
            connection.execute("CREATE TABLE t(a)")
        first = node.pid
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: node.pid not in (None, first) and node._is_ready(), 30, "another process")
        with connection:
            connection.execute("INSERT INTO t VALUES (1)")
        connection.close()
        assert node.restarts == 1
        last = node.pid
    assert not Path(f"/proc/{last}").exists()
    assert not os.path.ismount(node.mount.path)


def test_it_ends_with_its_parent(config, tmp_path):
    program = (
        "import sys, time; from litefs_py.node import Node\n"
        f"node = Node({str(config)!r}).start(); print(node.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        daemon = int(parent.stdout.readline())
        parent.kill()
    wait_for(lambda: not Path(f"/proc/{daemon}").exists(), 30, "the end of the daemon")
    assert not os.path.ismount(tmp_path / "mount")


def test_a_start_that_cannot_be(config, tmp_path):
    text = config.read_text()
    config.write_text(text.replace("cluster: app", "cluster: NOT A NAME"))
    with pytest.raises(LitefsError, match="ended with 78"):
        Node(config).start()
    config.write_text(text)
    with pytest.raises(LitefsError, match="No such file"):
        Node(config, program=tmp_path / "none").start()
    with pytest.raises(SettingsError, match="No such file"):
        Node(tmp_path / "none.yml")
    waits = settings.load(config)
    waits.bootstrap = False
    settings.save(waits, config)
    node = Node(config, timeout=1)
    with pytest.raises(WaitTimeout, match="n1 ready"):
        node.start()
    assert node.pid is None
