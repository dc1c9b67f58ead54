"""Requests that write, on a replica that is played: what reaches the primary's application, and what comes back."""

import asyncio
import gzip
import http.server
import io
import socket

import flask
import httpx
import pytest
from fastapi import FastAPI, Request
from litefs_fastapi import Litefs, LitefsMiddleware, LitefsWsgiMiddleware
from litefs_py import NotPrimaryError, Token

ZIPPED = gzip.compress(b"what the primary says")


class PlayedMount:
    """Of a replica that follows n1."""

    def __init__(self):
        self.follows, self.waited = "n1", []

    def primary(self):
        return self.follows

    def is_primary(self):
        return self.follows is None

    def wait(self, token, timeout):
        self.waited.append(token)

    async def wait_async(self, token, timeout):
        self.waited.append(token)

    def token(self, *names):
        return Token()


class Primary(http.server.BaseHTTPRequestHandler):
    """Keeps what it was sent."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        length = self.headers.get("content-length")
        body = self.rfile.read(int(length)) if length else self.read_chunked()
        self.server.got.append((self.command, self.path, self.headers, body))
        if self.path == "/silent":
            self.server.end.wait(20)
            return
        if self.path == "/broken":
            self.close_connection = True
            return
        self.send_response(201, "Made")
        self.send_header("Set-Cookie", "litefs_position=x; HttpOnly")
        self.send_header("Set-Cookie", "session=y; Path=/; SameSite=Lax")
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Connection", "x-own")
        self.send_header("X-Own", "1")
        self.send_header("Content-Length", str(len(ZIPPED)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(ZIPPED)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer

    def read_chunked(self):
        body = b""
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return body

    def log_message(self, *_):
        pass


@pytest.fixture
def primary(serve_primary):
    return serve_primary(Primary)


def litefs_of(**settings):
    made = Litefs(secret="a secret of all nodes", **settings)
    made.__dict__["mount"] = PlayedMount()
    return made


def asgi(litefs):
    app = FastAPI()
    app.add_middleware(LitefsMiddleware, litefs=litefs)

    @app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "HEAD"])
    async def serve(request: Request):
        await request.body()
        if request.url.path == "/writes":
            raise ValueError from NotPrimaryError("it writes", "n1")
        return "here"

    async def ask(method, path, **options):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("192.0.2.7", 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://app.example") as client:
            return await client.request(method, path, **options)

    return lambda method, path, **options: asyncio.run(ask(method, path, **options))


def wsgi(litefs):
    app = flask.Flask("app")
    app.wsgi_app = LitefsWsgiMiddleware(app.wsgi_app, litefs)
    app.config["PROPAGATE_EXCEPTIONS"] = True

    @app.route("/<path:path>", methods=["GET", "POST", "PUT", "HEAD"])
    def serve(path):
        flask.request.get_data()
        if path == "writes":
            raise ValueError from NotPrimaryError("it writes", "n1")
        return "here"

    def ask(method, path, **options):
        transport = httpx.WSGITransport(app, remote_addr="192.0.2.7")
        with httpx.Client(transport=transport, base_url="http://app.example") as client:
            return client.request(method, path, **options)

    return ask


both = pytest.mark.parametrize("make", [asgi, wsgi])


@both
def test_what_writes_goes_to_the_primary(make, primary):
    litefs = litefs_of(forward={"n1": primary.url})
    headers = {"cookie": "litefs_position=z; a=1", "content-type": "text/x", "connection": "close"}
    answer = make(litefs)("POST", "/e/a%20b?q=1&r=%2F", content=b"x" * 200_000, headers=headers)
    ((method, path, sent, body),) = primary.got
    assert (method, path, body) == ("POST", "/e/a%20b?q=1&r=%2F", b"x" * 200_000)
    assert sent["host"] == "app.example"
    assert sent["cookie"] == "litefs_position=z; a=1"
    assert sent["content-type"] == "text/x"
    assert sent["x-forwarded-for"] == "192.0.2.7"
    assert sent["x-forwarded-proto"] == "http"
    assert sent["litefs-forwarded-by"]
    assert sent["connection"] is None
    assert answer.status_code == 201
    assert answer.text == "what the primary says"
    assert answer.headers.get_list("set-cookie") == [
        "litefs_position=x; HttpOnly",
        "session=y; Path=/; SameSite=Lax",
    ]
    assert "x-own" not in answer.headers
    assert litefs.mount.waited == []


@both
def test_without_a_body(make, primary):
    ask = make(litefs_of(forward={"n1": primary.url}))
    assert ask("DELETE", "/x").status_code == 201
    assert primary.got[0][3] == b""


@both
def test_what_reads_and_what_the_primary_gets_is_served_here(make, primary):
    litefs = litefs_of(forward={"n1": primary.url}, local_paths=["/here"])
    ask = make(litefs)
    assert "here" in ask("GET", "/x").text
    assert "here" in ask("POST", "/here/x").text
    litefs.mount.follows = None
    assert "here" in ask("POST", "/x").text
    assert primary.got == []


@both
def test_at_most_one_hop(make, primary):
    ask = make(litefs_of(forward={"n1": primary.url}))
    for method, path in (("POST", "/x"), ("GET", "/writes")):
        answer = ask(method, path, headers={"Litefs-Forwarded-By": "n3"})
        assert (answer.status_code, answer.headers["litefs-primary"]) == (503, "n1")
    assert primary.got == []


@both
def test_what_turns_out_to_write(make, primary):
    ask = make(litefs_of(forward={"n1": primary.url}))
    assert ask("GET", "/writes").status_code == 201
    assert [got[:2] for got in primary.got] == [("GET", "/writes")]
    answer = ask("GET", "/writes", content=b"a body")
    assert (answer.status_code, answer.headers["litefs-primary"]) == (503, "n1")
    assert len(primary.got) == 1


@both
def test_paths_that_write(make, primary):
    ask = make(litefs_of(forward={"n1": primary.url}, write_paths=["/login"]))
    assert ask("GET", "/login/x").status_code == 201
    assert ask("HEAD", "/login/x").status_code == 201
    assert "here" in ask("GET", "/x").text


@both
@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"refuse_writes": True}, 503),
        ({"refuse_writes": True, "not_primary_status": 421}, 421),
        ({"forward": {"n3": "http://127.0.0.1:9"}}, 503),
    ],
)
def test_refused(make, settings, code):
    ask = make(litefs_of(**settings))
    answer = ask("POST", "/x")
    assert (answer.status_code, answer.headers["litefs-primary"]) == (code, "n1")
    assert answer.headers.get("retry-after") == ("1" if code == 503 else None)
    assert "here" in ask("GET", "/x").text


@both
def test_without_a_setting_the_application_finds_out(make):
    ask = make(litefs_of())
    assert "here" in ask("POST", "/x").text
    answer = ask("POST", "/writes")
    assert (answer.status_code, answer.headers["litefs-primary"]) == (503, "n1")


@both
def test_a_primary_that_is_not_there(make):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    answer = make(litefs_of(forward={"n1": url}))("POST", "/x", content=b"x")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@both
@pytest.mark.parametrize("path", ["/silent", "/broken"])
def test_a_primary_that_may_have_done_it(make, primary, path):
    """No 502, no Retry-After: nobody is to send it again by himself."""
    ask = make(litefs_of(forward={"n1": primary.url}, forward_timeout=0.3))
    answer = ask("POST", path, content=b"x")
    assert (answer.status_code, answer.headers.get("retry-after")) == (504, None)
    assert len(primary.got) == 1


def test_bodies_are_streamed_both_ways():
    """Each piece is there before the next one is made."""
    order = []

    async def played(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        for number in range(3):
            size = int((await reader.readline()), 16)
            order.append(f"got {(await reader.readexactly(size)).decode()}")
            await reader.readline()
            if number == 0:
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            writer.write(f"1\r\n{number}\r\n".encode())
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        writer.close()

    async def work():
        server = await asyncio.start_server(played, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        middleware = LitefsMiddleware(None, litefs_of(forward=f"http://127.0.0.1:{port}"))
        pieces = iter(range(3))
        relayed = []

        async def receive():
            number = next(pieces)
            if number == 2:
                while "got 1" not in order:
                    await asyncio.sleep(0.001)
            order.append(f"sent {number}")
            return {"type": "http.request", "body": b"%d" % number, "more_body": number < 2}

        async def send(message):
            relayed.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"",
            "headers": [(b"host", b"x"), (b"transfer-encoding", b"chunked")],
        }  # fmt: skip
        await asyncio.wait_for(middleware(scope, receive, send), 10)
        server.close()
        return relayed

    relayed = asyncio.run(work())
    assert order.index("got 1") < order.index("sent 2")
    assert [m["body"] for m in relayed if m.get("body")] == [b"0", b"1", b"2"]
    assert relayed[-1] == {"type": "http.response.body", "body": b""}


def test_a_client_that_goes_away_in_the_middle(primary):
    messages = iter(
        [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}]
    )
    sent = []

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message)

    middleware = LitefsMiddleware(None, litefs_of(forward={"n1": primary.url}))
    scope = {
        "type": "http", "method": "POST", "path": "/", "query_string": b"",
        "headers": [(b"content-length", b"10")],
    }  # fmt: skip
    asyncio.run(middleware(scope, receive, send))
    assert sent == []


def test_an_answer_that_nobody_reads_is_closed(primary):
    """A server may close it without having begun to read."""
    middleware = LitefsWsgiMiddleware(None, litefs_of(forward={"n1": primary.url}))
    environ = {
        "REQUEST_METHOD": "POST", "PATH_INFO": "/x", "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(), "HTTP_HOST": "x",
    }  # fmt: skip
    answer = middleware(environ, lambda *_: None)
    answer.close()
    assert answer._response.is_closed
    assert not answer._transport._pool.connections


def socket_of(litefs, path, extensions):
    """What a client of a WebSocket is told, by an application that accepts all."""
    said = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        said.append(message)

    scope = {"type": "websocket", "path": path, "headers": [], "extensions": extensions}
    asyncio.run(LitefsMiddleware(app, litefs)(scope, receive, send))
    return said


def test_a_websocket_that_writes_is_refused_on_a_replica():
    litefs = litefs_of(forward="http://{name}:1", write_paths=["/edit"], not_primary_status=421)
    answers = {"websocket.http.response": {}}
    start, body = socket_of(litefs, "/edit/7", answers)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 421)
    assert (b"litefs-primary", b"n1") in start["headers"]
    assert body == {"type": "websocket.http.response.body", "body": b"This node must not write.\n"}
    # A server without that makes a 403 of it.
    assert socket_of(litefs, "/edit/7", None) == [{"type": "websocket.close", "code": 1013}]
    # Others are served here.
    assert socket_of(litefs, "/news", answers) == [{"type": "websocket.accept"}]
    litefs.mount.follows = None
    assert socket_of(litefs, "/edit/7", answers) == [{"type": "websocket.accept"}]
