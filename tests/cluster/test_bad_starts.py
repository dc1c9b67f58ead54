"""A node that cannot start says so in one clear line, with an exit code, soon."""

import socket
import subprocess

import pytest
from cluster_fixtures import PROGRAM
from devcluster import Cluster, die_with_parent, run, wait_for

# sysexits(3).
UNAVAILABLE, TRY_AGAIN, CONFIG = 69, 75, 78


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a cluster that does not run."""
    cluster = Cluster(tmp_path_factory.mktemp("bad") / "dev", program=PROGRAM)
    cluster.spawn()
    try:
        wait_for(lambda: (cluster.folder / "dev.json").exists(), 30, "dev.json")
        assert cluster.stop() in (0, -15)
        yield cluster
        assert not cluster.leftovers()
    finally:
        cluster.clear()


@pytest.fixture
def config(made, tmp_path):
    """Text of a good configuration, with a data folder and a mount point of its own."""
    folder = made.folder / "n1"
    text = (folder / "config.yml").read_text()
    return text.replace(f"{folder}/data", f"{tmp_path}/data").replace(
        f"{folder}/mount", f"{tmp_path}/mount"
    )


def start(path, text=None):
    if text is not None:
        path.write_text(text)
    return run(PROGRAM, "node", "--config", path, check=False, deadline=20)


def said(done, *words):
    """One line, that has these words."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("litefs-py:")]
    assert len(lines) == 1, f"not one clear line: {done.stderr}"
    for word in words:
        assert word in lines[0], f"{word!r} is not in {lines[0]!r}"
    assert "panicked" not in done.stderr


def test_an_unknown_key(config, tmp_path):
    done = start(tmp_path / "config.yml", config + "\nmontage: /x\n")
    assert done.returncode == CONFIG
    said(done, "montage", str(tmp_path / "config.yml"))


def test_a_wrong_type(config, tmp_path):
    done = start(tmp_path / "config.yml", config.replace("heartbeat: 50ms", "heartbeat: 50"))
    assert done.returncode == CONFIG
    said(done, "50")


def test_settings_that_do_not_fit_together(config, tmp_path):
    done = start(tmp_path / "config.yml", config.replace("heartbeat: 50ms", "heartbeat: 140ms"))
    assert done.returncode == CONFIG
    said(done, "raft.election_timeout_min")


def test_no_yaml_at_all(tmp_path):
    done = start(tmp_path / "config.yml", "\x00{{{{")
    assert done.returncode == CONFIG
    said(done)


def test_no_file(tmp_path):
    done = start(tmp_path / "nowhere.yml")
    assert done.returncode == CONFIG
    said(done, "nowhere.yml")


@pytest.mark.parametrize("section", ["mesh", "api"])
def test_a_port_in_use(config, tmp_path, section):
    port = int(
        config.split(f"\n{section}:\n  listen: ")[1].split("\n")[0].strip("\"'").rpartition(":")[2]
    )
    with socket.create_server(("127.0.0.1", port)):
        done = start(tmp_path / "config.yml", config)
    assert done.returncode == UNAVAILABLE
    said(done, str(port), "in use")


def test_no_fuse(config, tmp_path):
    """In a mount namespace of its own, whose /dev is empty."""
    (tmp_path / "config.yml").write_text(config)
    script = 'mount -t tmpfs none /dev && exec "$@"'
    done = run(
        "unshare", "-m", "sh", "-c", script, "sh", PROGRAM, "node", "--config",
        tmp_path / "config.yml", check=False,
    )  # fmt: skip
    assert done.returncode == UNAVAILABLE
    said(done, "/dev/fuse", "modprobe")


def test_a_mount_point_that_is_not_empty(config, tmp_path):
    (tmp_path / "mount").mkdir()
    (tmp_path / "mount" / "precious.db").write_text("x")
    done = start(tmp_path / "config.yml", config)
    assert done.returncode == CONFIG
    said(done, "precious.db", "not empty")


def test_a_mount_point_that_is_a_file(config, tmp_path):
    (tmp_path / "mount").write_text("x")
    done = start(tmp_path / "config.yml", config)
    assert done.returncode == CONFIG
    said(done, str(tmp_path / "mount"))


def test_a_missing_certificate(config, tmp_path):
    done = start(tmp_path / "config.yml", config.replace("tls/node.crt", "tls/gone.crt"))
    assert done.returncode == CONFIG
    said(done, "gone.crt")


def test_another_node_in_the_same_data_folder(config, tmp_path):
    """And the first goes on."""
    path = tmp_path / "config.yml"
    path.write_text(config)
    with open(tmp_path / "log", "w") as log:
        first = subprocess.Popen(
            [PROGRAM, "node", "--config", path], stderr=log, stdout=log, preexec_fn=die_with_parent
        )
    try:
        wait_for(lambda: (tmp_path / "data" / "boot").exists(), what="the first node's start")
        done = start(path)
        assert done.returncode == TRY_AGAIN
        said(done, str(tmp_path / "data"), "in use")
        assert first.poll() is None, (tmp_path / "log").read_text()
    finally:
        first.terminate()
        try:
            first.wait(30)
        finally:
            first.kill()
            subprocess.run(
                ["umount", "-l", tmp_path / "mount"], check=False, stderr=subprocess.DEVNULL
            )
    assert first.returncode == 0, (tmp_path / "log").read_text()


def test_a_data_folder_of_another_node(config, tmp_path):
    """caught-up, nothing-discarded: a foreign folder is set aside, not overwritten."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "identity").write_text('{"format": 1, "cluster": "other", "node": 7}')
    (tmp_path / "data" / "dbs").mkdir()
    (tmp_path / "data" / "dbs" / "marker").write_text("precious")
    path = tmp_path / "config.yml"
    path.write_text(config)
    with open(tmp_path / "log", "w") as log:
        node = subprocess.Popen(
            [PROGRAM, "node", "--config", path], stderr=log, stdout=log, preexec_fn=die_with_parent
        )
    try:
        wait_for(
            lambda: (tmp_path / "data" / "boot").exists() or node.poll() is not None, what="a start"
        )
        kept = list((tmp_path / "data").rglob("marker"))
        assert [p.read_text() for p in kept] == ["precious"]
        assert "aside" in (tmp_path / "log").read_text() or node.poll() is not None
    finally:
        node.terminate()
        try:
            node.wait(30)
        finally:
            node.kill()
            subprocess.run(
                ["umount", "-l", tmp_path / "mount"], check=False, stderr=subprocess.DEVNULL
            )


def test_dev_twice_in_one_folder(made):
    """The second is refused and does the first no harm."""
    made.spawn()
    try:
        wait_for((made.folder / "ready.json").exists, 60, "the first")
        done = run(PROGRAM, "dev", "--dir", made.folder, check=False)
        assert done.returncode == 75
        said(done, str(made.folder))
        assert made.dev.poll() is None
    finally:
        made.stop()
