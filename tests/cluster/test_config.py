"""`PATCH /config`, `litefs-py config set` and `config diff`: settings of a node that runs."""

import json
import socket
import time

import pytest
from devcluster import SqlError, wait_for


@pytest.fixture
def node(cluster):
    """One that runs by its file; afterwards too."""
    node = cluster.nodes[0]
    yield node
    node.by_socket("/config", "PATCH", dict.fromkeys(("api", "log", "raft", "write")))


def change(node, patch):
    return node.by_socket("/config", "PATCH", patch)


def config(cluster, what, node, *arguments, check=True):
    own = ("--config", node.folder / "config.yml")
    return cluster.command("config", what, *own, *arguments, check=check)


def refused_after(cluster, node, db):
    """How long a request for a lock that another node holds is kept before it is answered "busy":
    lock_wait."""
    elsewhere = next(other for other in cluster.nodes if other is not node)
    with elsewhere.client(db) as holder, node.client(db, timeout=0) as other:
        holder.run("BEGIN IMMEDIATE")
        with pytest.raises(SqlError) as refused:
            other.run("BEGIN IMMEDIATE")
        assert refused.value.busy
        return refused.value.seconds


def test_a_setting_takes_effect_at_once(cluster, node, db):
    cluster.create(db, "PRAGMA journal_mode = wal", "CREATE TABLE t(x)")
    assert refused_after(cluster, node, db) < 0.5
    code, view = change(node, {"write": {"lock_wait": "900ms"}})
    assert code == 200 and view["changed"] == {"write.lock_wait": "900ms"}
    assert view["file"]["write"]["lock_wait"] == "50ms"
    assert view["running"]["write"]["lock_wait"] == "900ms"
    assert refused_after(cluster, node, db) > 0.8
    assert change(node, {"write": {"lock_wait": None}})[0] == 200
    assert refused_after(cluster, node, db) < 0.5


def test_the_log_says_more_and_less(cluster, node):
    def says_more(mark):
        return " DEBUG " in node.log()[mark:]

    mark = len(node.log())
    change(node, {"log": {"level": "debug"}})
    wait_for(lambda: cluster.restart(cluster.nodes[2]) or says_more(mark), 30, "a DEBUG line")
    change(node, {"log": {"level": "error"}})
    mark = len(node.log())
    cluster.kill(cluster.nodes[2])
    cluster.restart(cluster.nodes[2])
    assert "lost" not in node.log()[mark:] and not says_more(mark)


def test_the_raft_log_is_purged_earlier(cluster, node, db):
    cluster.create(db, "PRAGMA journal_mode = wal", "CREATE TABLE t(x)")
    fill = "INSERT INTO t SELECT randomblob(500000)"
    for _ in range(8):
        node.sql(db, fill)

    def log_bytes():
        line = next(
            x for x in node.ask("/metrics")[1].splitlines() if x.startswith("litefs_py_log_bytes")
        )
        return float(line.split()[1])

    assert log_bytes() > 3e6
    assert change(node, {"raft": {"log_purge_bytes": "1MiB"}})[0] == 200
    wait_for(lambda: log_bytes() < 2e6, 20, "a smaller log")


def test_it_is_kept_shown_and_taken_back(cluster, node):
    assert config(cluster, "diff", node).stdout == "the node runs by its file\n"
    shown = config(cluster, "set", node, "write.commit_timeout", "20s").stdout
    assert shown.splitlines()[1].split()[:3] == ["write.commit_timeout", "15s", "20s"]
    before = (node.folder / "config.yml").read_bytes()
    cluster.restart(node)
    said = json.loads(config(cluster, "diff", node, "--json").stdout)
    assert said == [
        {
            "key": "write.commit_timeout",
            "file": "15s",
            "running": "20s",
            "why": "changed while it runs",
        }
    ]
    # The file is not written to; what was changed in it counts from the next start on.
    assert (node.folder / "config.yml").read_bytes() == before
    (node.folder / "config.yml").write_bytes(before.replace(b"heartbeat: 50ms", b"heartbeat: 60ms"))
    assert "restart the node" in config(cluster, "diff", node).stdout
    (node.folder / "config.yml").write_bytes(before)
    shown = config(cluster, "set", node, "write.commit_timeout", "null").stdout
    assert shown == "the node runs by its file\n"
    cluster.restart(node)
    assert config(cluster, "diff", node).stdout == "the node runs by its file\n"


def test_what_cannot_be_is_refused_and_changes_nothing(cluster, node):
    _, before = node.by_socket("/config")
    good = {"log": {"level": "warn"}}
    for code, word, patch in [
        (
            412,
            "raft.heartbeat cannot be changed while the node runs",
            {"raft": {"heartbeat": "60ms"}},
        ),
        (422, 'unknown key "wirte"; did you mean "write"?', {"wirte": {}}),
        (422, 'did you mean "write.lock_wait"?', {"write": {"lock_wiat": "1s"}}),
        (422, "write.lock_wait: ", {"write": {"lock_wait": "50"}}),
        (422, "at least twice raft.election_timeout_max", {"write": {"commit_timeout": "1ms"}}),
        (422, "an object", [1]),
    ]:
        patch = {**good, **patch} if isinstance(patch, dict) else patch
        said = change(node, patch)
        assert said[0] == code and word in said[1]["error"], said
    assert node.by_socket("/config")[1] == before
    # Not without the socket or the token: these nodes have none.
    assert node.ask("/config", "PATCH")[0] == 403
    failed = config(cluster, "set", node, "write.lock_wiat", "1s", check=False)
    assert failed.returncode == 65 and "did you mean" in failed.stderr


def test_a_body_of_a_gigabyte(cluster, node):
    """bounded-answer: refused at once, also one that does not say how long it is, and never kept."""
    before = node.resident()
    head = "PATCH /config HTTP/1.1\r\nHost: x\r\n"
    for kind in ("Content-Length: 1000000000", "Transfer-Encoding: chunked"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(node.folder / "api.sock"))
            connection.sendall(f"{head}{kind}\r\n\r\n".encode())
            if "chunked" in kind:
                chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
                try:
                    for _ in range(16_000):
                        connection.sendall(chunk)
                    raise AssertionError("the whole of it was taken")
                except OSError:
                    pass
            began = time.monotonic()
            try:
                answer = connection.recv(1000)
            except ConnectionResetError:
                answer = b""
            assert time.monotonic() - began < 5
            if "chunked" not in kind:
                assert answer.startswith(b"HTTP/1.1 413 "), answer
    assert node.resident() - before < 30e6
    assert node.is_ready()
