"""bounded-answer, no-open-door: the API against clients that are slow, or that send too much."""

import os
import time

import meshclient as mesh
import pytest
from devcluster import shell, wait_for
from fenced import API, MESH, TOKEN

DATABASES = 60

# Of src/api/server.rs: HEAD_TIME is 30 s, BODY_TIME 10 s; with room for a busy machine.
HEAD, BODY = 45, 25


@pytest.fixture
def target(fenced):
    """A node whose API is open to the outside."""
    return fenced.nodes[0]


def head(path, method="POST", **headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: node", f"Authorization: Bearer {TOKEN}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines + ["", ""]).encode()


def status(stream):
    return mesh.read(stream, 12)[9:12]


@pytest.mark.slow
def test_slow_and_silent_clients(fenced, attack, target):
    """A head that never ends and a connection that says nothing have half a minute, a body ten
    seconds; all three at once."""
    silent, slow, body = (fenced.connect(target, API, HEAD) for _ in range(3))
    began = time.monotonic()
    body.sendall(head("/switchover", Content_Length=100))
    text = b"GET /health HTTP/1.1\r\n" + b"X-Slow: 1\r\n" * 100
    sent, ended = 0, {}
    while len(ended) < 3 and time.monotonic() - began < HEAD:
        for stream, bytes_left in (
            (slow, text[sent : sent + 1]),
            (body, b" " if sent < 90 else b""),
        ):
            if stream not in ended:
                try:
                    stream.sendall(bytes_left)
                except ConnectionError:
                    ended[stream] = time.monotonic() - began
        for stream in (silent, slow, body):
            if stream not in ended and over(stream):
                ended[stream] = time.monotonic() - began
        sent += 1
        # A byte a while is what this is about.
        time.sleep(0.25)
    assert len(ended) == 3, [round(seconds) for seconds in ended.values()]
    assert ended[body] < BODY


def over(stream):
    """Whether the node has hung up; what it said before is read."""
    stream.settimeout(0.01)
    try:
        return stream.recv(65536) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize("what", ["one long header", "many headers", "a long path", "no end"])
def test_a_huge_head(fenced, attack, target, what):
    stream = fenced.connect(target, API)
    text = {
        "one long header": b"GET /health HTTP/1.1\r\nX: " + b"x" * (8 << 20) + b"\r\n\r\n",
        "many headers": b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        "a long path": b"GET /" + b"x" * (8 << 20) + b" HTTP/1.1\r\n\r\n",
        "no end": b"x" * (8 << 20),
    }[what]
    try:
        stream.sendall(text)
    except (ConnectionError, TimeoutError):
        pass
    code = status(stream)
    assert code in (b"431", b"414", b"400", b""), code
    mesh.until_closed(stream, 10)


@pytest.mark.parametrize("path", ["/barrier", "/switchover"])
@pytest.mark.parametrize("told", ["with its length", "in chunks"])
def test_a_huge_body(fenced, attack, target, path, told):
    """Ten gigabytes are announced, and sent until the node hangs up or does not take them."""
    stream = fenced.connect(target, API, 15)
    length = (
        {"Content_Length": 10 << 30}
        if told == "with its length"
        else {"Transfer_Encoding": "chunked"}
    )
    stream.sendall(head(path, **length))
    piece = b" " * (1 << 20)
    if told == "in chunks":
        piece = b"100000\r\n" + piece + b"\r\n"
    sent, began = 0, time.monotonic()
    try:
        while sent < 1 << 30 and time.monotonic() - began < 15:
            stream.sendall(piece)
            sent += len(piece)
    except (ConnectionError, TimeoutError):
        pass
    assert sent < 1 << 28, f"it took {sent >> 20} MiB"
    mesh.until_closed(stream, BODY)


def test_a_body_without_the_token(fenced, attack, target):
    """Refused before its body is looked at."""
    stream = fenced.connect(target, API)
    stream.sendall(
        b"POST /switchover HTTP/1.1\r\nHost: node\r\nContent-Length: 10000000000\r\n\r\n"
    )
    assert status(stream) == b"401"
    stream.close()


def test_thousands_of_connections(fenced, attack, target):
    """256 are served, the rest is turned away at once; the operator's socket has a room of its own, and
    when they are gone, so is the crowd."""
    streams = [fenced.connect(target, API) for _ in range(2000)]
    assert target.ask("/databases")[0] == 200
    for stream in streams:
        stream.close()
    began = time.monotonic()
    while (code := fenced.http(target, "/liveness")[0]) != 200:
        assert time.monotonic() - began < 10, code


def test_pipelined_requests(fenced, attack, target):
    """Thousands of questions on one connection, and no answer is read."""
    stream = fenced.connect(target, API, 2)
    request = b"GET /health HTTP/1.1\r\nHost: node\r\n\r\n"
    sent = 0
    try:
        while sent < 64 << 20:
            stream.sendall(request * 1000)
            sent += 1000 * len(request)
    except (ConnectionError, TimeoutError):
        pass
    assert sent < 64 << 20, "it took them all"
    stream.close()


def files(node):
    return len(os.listdir(f"/proc/{node.pid}/fd"))


def test_a_node_with_few_files_left(fenced, attack, measured, target):
    """Strangers take all the connections that both doors have room for, on a node with many databases,
    whose limit of open files is what systemd gives: it goes on, and opens what it needs itself."""
    script = "".join(
        f"ATTACH '{target.db(f'files-{number}.db')}' AS d; CREATE TABLE IF NOT EXISTS d.t(x);"
        "INSERT INTO d.t VALUES (1); DETACH d;"
        for number in range(DATABASES)
    )
    shell(":memory:", script, deadline=120)
    before = files(target)
    streams = [fenced.connect(target, MESH) for _ in range(1000)]
    streams += [fenced.connect(target, API) for _ in range(500)]
    during = files(target)
    # New files of the node's own: a database, and its WAL and wal-index.
    shell(target.db("one-more.db"), "CREATE TABLE IF NOT EXISTS t(x)", "INSERT INTO t VALUES (1)")
    for stream in streams:
        stream.close()
    measured(f"files open on a node with {DATABASES} databases: {before}, {during} under attack")
    wait_for(lambda: fenced.http(target, "/liveness")[0] == 200, 10, "an answer")
