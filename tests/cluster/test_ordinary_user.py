"""A cluster of a user who is not root: mounted by fusermount3, the shm shared through the mount."""

import os
import shutil
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from cluster_fixtures import PROGRAM
from devcluster import Cluster, run, wait_for

NOBODY = 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
WRITES = 40
CONNECTIONS = Path("/sys/fs/fuse/connections")


def why_not():
    helper = shutil.which("fusermount3")
    if helper is None:
        return "there is no fusermount3 (Debian: fuse3)"
    if not os.stat(helper).st_mode & stat.S_ISUID or os.stat(helper).st_uid != 0:
        return f"{helper} is not setuid root"
    if shutil.which("setpriv") is None:
        return "there is no setpriv (Debian: util-linux)"
    return None


@pytest.fixture(scope="module")
def device():
    """/dev/fuse as udev makes it, for everybody; some containers have it for root alone."""
    mode = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    os.chmod("/dev/fuse", 0o666)
    yield
    os.chmod("/dev/fuse", mode)


@pytest.fixture(scope="module")
def control():
    """The kernel's control of FUSE connections, which systemd mounts and some containers lack."""
    if any(CONNECTIONS.iterdir()):
        yield
        return
    run("mount", "-t", "fusectl", "none", CONNECTIONS)
    yield
    run("umount", "-l", CONNECTIONS)


@pytest.fixture(scope="module")
def cluster(device, control):
    if reason := why_not():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="litefs-py-user-"))
    os.chown(folder, NOBODY, NOBODY)
    program = PROGRAM
    if run(*AS_NOBODY, "test", "-x", program, check=False).returncode:
        program = shutil.copy(PROGRAM, folder / "litefs-py")
    made = Cluster(folder / "dev", program=program, user=NOBODY)
    try:
        yield made.start()
        code = made.stop()
        assert not code, f"litefs-py dev ended with {code}"
        left = made.leftovers()
        assert not left, f"left behind: {left}"
    finally:
        made.clear()
        shutil.rmtree(folder, ignore_errors=True)


def sql(node, name, *statements, check=True):
    shell = ["sqlite3", "-bail", "-cmd", ".timeout 20000", node.db(name)]
    return run(*AS_NOBODY, *shell, *statements, check=check).stdout.split()


def same(cluster, name, expected):
    """Every node shows these, and is sound."""
    cluster.settle(name)
    for node in cluster.running():
        assert sql(node, name, "PRAGMA integrity_check") == ["ok"]
        assert sql(node, name, "SELECT count(*) FROM t") == [str(expected)], node


def test_every_node_writes(cluster):
    sql(cluster.nodes[0], "app.db", "CREATE TABLE t(x)")
    cluster.settle("app.db")
    for node in cluster.nodes:
        sql(node, "app.db", f"INSERT INTO t VALUES ('{node}')")
    same(cluster, "app.db", 3)
    assert sql(cluster.nodes[1], "app.db", "PRAGMA journal_mode") == ["wal"]
    owner = os.stat(cluster.folder / "n1").st_uid
    assert owner == NOBODY


def test_both_workers_are_kept_busy(cluster):
    """The daemon shares each shm through its own mount, and must never wait for itself
    (bounded-answer): several databases, each written on every node at once."""
    names = ["one.db", "two.db", "three.db"]
    for name in names:
        sql(cluster.leader(), name, "CREATE TABLE t(x)")
        cluster.settle(name)
    script = "".join("INSERT INTO t VALUES (randomblob(5000));" for _ in range(WRITES))
    writers = [
        subprocess.Popen(
            [*AS_NOBODY, "sqlite3", "-bail", "-cmd", ".timeout 60000", node.db(name), script]
        )
        for node in cluster.nodes
        for name in names
    ]
    try:
        for writer in writers:
            assert writer.wait(120) == 0
    finally:
        for writer in writers:
            writer.kill()
    for name in names:
        same(cluster, name, WRITES * len(cluster.nodes))


def test_a_stale_mount_is_cleared(cluster):
    """Killed while an application has a database open: the next start takes the mount point back."""
    node = cluster.followers()[0]
    reader = subprocess.Popen(
        [*AS_NOBODY, "sqlite3", node.db("app.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        reader.stdin.write("BEGIN; SELECT count(*) FROM t;\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == "3\n"
        os.kill(node.pid, signal.SIGKILL)
        node.killed = True
        cluster.restart(node)
    finally:
        reader.kill()
        reader.wait(30)
    sql(node, "app.db", "INSERT INTO t VALUES ('again')")
    same(cluster, "app.db", 4)


def test_a_stop_leaves_no_mount(cluster):
    """A clean stop unmounts by fusermount3."""
    node = cluster.leader()
    cluster.kill(node, signal.SIGTERM)
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(node.mount) not in mounts
    cluster.restart(node)
    wait_for(node.is_ready, 30, "ready again")
    same(cluster, "app.db", 4)
