"""Both clients against a node that is played here, on loopback."""

import asyncio
import http.server
import inspect
import json
import threading
from pathlib import Path

import pytest
from litefs_py import AsyncClient, Client, NodeDown, QuorumLost, WaitTimeout
from litefs_py.domain import errors

STATUS = {
    "cluster": "c", "id": 1, "name": "n1", "version": "0.1.0", "uptime_seconds": 1, "role": "primary",
    "raft_role": "leader", "term": 3, "leader": "n1", "quorum": {"ok": True, "age_ms": 0},
    "applied_index": 5, "committed_index": 5, "lag_ms": 0, "serving": True, "not_ready": [],
    "stuck": None, "members": [], "indeterminate": [], "of_a_later_version": 1,
}  # fmt: skip


class Played(http.server.BaseHTTPRequestHandler):
    def answer(self):
        node = self.server
        node.seen.append((self.command, self.path, dict(self.headers)))
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if node.silent.is_set():
            node.over.wait(20)
            return
        code, body = node.answers.get(self.path.partition("?")[0], (404, {"error": "no"}))
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("content-length", str(len(raw)))
        self.send_header("set-cookie", "who=me; Path=/")
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *_):
        pass


@pytest.fixture
def play():
    servers = []

    def start(**answers):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Played)
        server.daemon_threads = True
        server.seen, server.silent, server.over = [], threading.Event(), threading.Event()
        server.answers = {f"/{path}": answer for path, answer in answers.items()}
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.over.set()
        server.shutdown()
        server.server_close()


class Awaiting:
    """An `AsyncClient` that is called as a `Client`."""

    def __init__(self, *args, **kwargs):
        self.client, self.loop = AsyncClient(*args, **kwargs), asyncio.new_event_loop()

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.loop.run_until_complete(
            getattr(self.client, name)(*args, **kwargs)
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.loop.run_until_complete(self.client.close())
        self.loop.close()


both = pytest.mark.parametrize("make", [Client, Awaiting], ids=["sync", "async"])
DOWN = "http://127.0.0.1:1"


@both
def test_answers(make, play):
    position = "000000000000001f/00000000000000aa"
    node = play(
        cluster=(200, STATUS),
        databases=(200, [{
            "name": "app.db", "incarnation": 3, "position": position, "page_size": 4096, "pages": 2,
            "journal": "wal", "wal_bytes": 0, "write_lock": None, "waiting": 0, "behind": 0,
        }]),
        readiness=(503, {"state": "starting", "role": "replica", "reason": "catching up"}),
        barrier=(200, {"index": 42}),
        switchover=(202, {"state": "accepted", "to": "n2"}),
        check=(200, {"name": "app.db", "copies": {
            "n1": {"state": "sound", "incarnation": 3, "position": position, "pages": 2},
            "n2": {"state": "unread", "why": "down"}}}),
    )  # fmt: skip
    with make(node.url, token="secret") as client:
        assert client.status().term == 3
        assert client.position("app.db").txid == 31
        assert client.position("none.db") is None
        assert dict(client.token()) == {"app.db": 31}
        client.wait({"app.db": 31}, timeout=1)
        with pytest.raises(WaitTimeout):
            client.wait({"app.db": 32}, timeout=0.05)
        health = client.health()
        assert (health.ok, health.reason) == (False, "catching up")
        assert client.barrier(2) == 42
        assert client.switchover("n2").leader == "n2"
        checked = client.check("app.db")
        assert not checked.sound
        assert checked.copies["n1"].position.txid == 31
    requests = {path: headers for _, path, headers in node.seen}
    assert requests["/cluster"]["authorization"] == "Bearer secret"
    assert "/barrier?timeout=2000ms" in requests


@both
def test_no_cookie_is_kept(make, play):
    node = play(cluster=(200, STATUS))
    with make(node.url) as client:
        client.status()
        client.status()
    assert not any("cookie" in {k.lower() for k in headers} for _, _, headers in node.seen)


@both
def test_fail_over(make, play):
    well = play(cluster=(200, STATUS), switchover=(200, {"state": "done", "leader": "n1"}))
    with make([DOWN, well.url]) as client:
        assert client.status().name == "n1"
        assert client.switchover().state == "done"
        with pytest.raises(NodeDown):
            client.databases()
    frozen = play(cluster=(200, STATUS))
    frozen.silent.set()
    with make([frozen.url, well.url], timeout=1) as client:
        assert client.status().name == "n1"
    with make(frozen.url, timeout=0.2) as client, pytest.raises(WaitTimeout):
        client.status()


@both
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (401, errors.NotAllowed),
        (403, errors.NotAllowed),
        (404, errors.NotFound),
        (412, errors.Refused),
        (500, errors.ApiError),
    ],
)
def test_errors(make, play, code, kind):
    node = play(cluster=(code, {"error": "because"}), databases=(code, b"<html>"))
    with make(node.url) as client:
        with pytest.raises(kind, match="because") as caught:
            client.status()
        assert caught.value.code == code
        with pytest.raises(kind, match="<html>"):
            client.databases()


@both
def test_a_barrier_says_why_it_failed(make, play):
    alone = {**STATUS, "leader": None, "quorum": {"ok": False, "age_ms": 9}}
    node = play(barrier=(503, {"error": "no leader"}), cluster=(200, alone))
    with make(node.url) as client, pytest.raises(QuorumLost, match="no leader"):
        client.barrier(1)
    node = play(barrier=(503, {"error": "not within 1s"}), cluster=(200, STATUS))
    with make(node.url) as client, pytest.raises(WaitTimeout):
        client.barrier(1)


@both
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"cluster": 1}', b"\xff"])
def test_answers_of_another_kind(make, play, body):
    node = play(cluster=(200, body), databases=(200, b'[{"position": "x"}]'))
    with make(node.url) as client:
        with pytest.raises(errors.ApiError):
            client.status()
        with pytest.raises(errors.ApiError):
            client.databases()


@pytest.mark.parametrize("url", ["", "localhost:8008", "ftp://x", "unix:run/x", "http://"])
def test_what_is_no_endpoint(url):
    with pytest.raises(errors.SettingsError, match="endpoint"):
        Client(url)


def test_the_token_of_a_file(play, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    node = play(cluster=(200, STATUS))
    with Client(node.url, token_file=tmp_path / "token") as client:
        client.status()
    assert node.seen[0][2]["authorization"] == "Bearer secret"
    with pytest.raises(errors.SettingsError, match="token_file"):
        Client(node.url, token_file=tmp_path / "none")


def test_both_clients_have_the_same_methods():
    def methods(kind):
        found = inspect.getmembers(kind, inspect.isfunction)
        return {n: list(inspect.signature(f).parameters) for n, f in found if not n.startswith("_")}

    assert methods(Client) == methods(AsyncClient)


def test_the_async_client_is_made_of_the_other():
    tools = Path(__file__).parents[3] / "tools"
    scope = {"__name__": "tool", "__file__": str(tools / "async_client.py")}
    exec((tools / "async_client.py").read_text(), scope)
    made = scope["awaited"]((scope["HTTP"] / "client.py").read_text())
    assert made == (scope["HTTP"] / "async_client.py").read_text()


def test_a_cancelled_question_leaves_no_connection(play):
    node = play(cluster=(200, STATUS))
    node.silent.set()

    async def ask():
        async with AsyncClient(node.url) as client:
            question = asyncio.create_task(client.status())
            while not node.seen:
                await asyncio.sleep(0.01)
            question.cancel()
            with pytest.raises(asyncio.CancelledError):
                await question
            pool = client._transports[0]._pool
            assert not pool.connections

    asyncio.run(ask())
