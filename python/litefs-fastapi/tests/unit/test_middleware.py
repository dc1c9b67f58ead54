"""The middlewares against a mount that is played: cookies, 503, and bodies that nobody touches."""

import asyncio
import time

import flask
import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from litefs_fastapi import Litefs, LitefsMiddleware, LitefsWsgiMiddleware
from litefs_fastapi.mode import only_reads
from litefs_py import NodeDown, QuorumLost, SettingsError, Token, WaitTimeout
from litefs_py.domain import cookie
from litefs_py.usecases import writes

NAME, SECRET = "litefs_position", "a secret of all nodes"


class PlayedMount:
    def __init__(self):
        self.waited, self.error, self.leads = [], None, False

    def wait(self, token, timeout):
        if token:
            self.waited.append(dict(token))
            if self.error:
                raise self.error

    async def wait_async(self, token, timeout):
        self.wait(token, timeout)

    def is_primary(self):
        return self.leads

    def token(self, *names):
        return Token(dict.fromkeys(names, 7))


@pytest.fixture
def litefs():
    made = Litefs(secret=SECRET)
    made.__dict__["mount"] = PlayedMount()
    return made


def asgi(litefs):
    app = FastAPI()
    app.add_middleware(LitefsMiddleware, litefs=litefs)

    @app.post("/write")
    def write():
        assert not only_reads()
        writes.wrote("app.db")

    @app.get("/read")
    async def read():
        assert only_reads()

    @app.get("/fail")
    async def fail():
        raise QuorumLost("nobody leads")

    async def ask(method, path, value):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        headers = {"cookie": f"other=1; {NAME}={value}"} if value is not None else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.request(method, path, headers=headers)

    return lambda method, path, value=None: asyncio.run(ask(method, path, value))


def wsgi(litefs):
    app = flask.Flask("app")
    app.wsgi_app = LitefsWsgiMiddleware(app.wsgi_app, litefs)
    app.config["PROPAGATE_EXCEPTIONS"] = True

    @app.post("/write")
    def write():
        assert not only_reads()
        writes.wrote("app.db")
        return "x"

    @app.get("/read")
    def read():
        assert only_reads()
        return "x"

    @app.get("/fail")
    def fail():
        raise QuorumLost("nobody leads")

    def ask(method, path, value=None):
        headers = {"cookie": f"other=1; {NAME}={value}"} if value is not None else {}
        with httpx.Client(transport=httpx.WSGITransport(app), base_url="http://x") as client:
            return client.request(method, path, headers=headers)

    return ask


both = pytest.mark.parametrize("make", [asgi, wsgi])


def signed(txid=9, key=SECRET, age=0.0, name="app.db"):
    return cookie.sign(Token({name: txid}), key.encode(), time.time() - age)


@both
def test_who_wrote_gets_a_position_and_waits_for_it(make, litefs):
    ask = make(litefs)
    answer = ask("POST", "/write")
    assert answer.status_code == 200
    value = answer.cookies[NAME]
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert dict(cookie.read(value, [SECRET.encode()], time.time())) == {"app.db": 7}
    answer = ask("GET", "/read", value)
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert litefs.mount.waited == [{"app.db": 7}]


@both
def test_what_is_late_is_served_and_what_is_down_is_not(make, litefs):
    ask = make(litefs)
    litefs.mount.error = WaitTimeout("late")
    assert ask("GET", "/read", signed()).status_code == 200
    litefs.mount.error = NodeDown("gone")
    answer = ask("GET", "/read", signed())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@both
def test_a_failure_that_committed_nothing(make, litefs):
    answer = make(litefs)("GET", "/fail")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@both
@pytest.mark.parametrize(
    "value", ["", "x", "1.2.3", "a" * 9000, signed(key="other"), signed(age=3600)]
)
def test_cookies_that_are_not_ours_are_ignored(make, litefs, value):
    assert make(litefs)("GET", "/read", value).status_code == 200
    assert litefs.mount.waited == []


@both
def test_a_primary_waits_for_nothing(make, litefs):
    """What is not there was lost with the primary before."""
    litefs.mount.leads = True
    assert make(litefs)("GET", "/read", signed()).status_code == 200
    assert litefs.mount.waited == []


def test_plain_sqlite_costs_no_thread(monkeypatch):
    litefs = Litefs(enabled=False)
    litefs.__dict__["mount"] = PlayedMount()

    async def app(scope, receive, send):
        writes.wrote("app.db")
        await send({"type": "http.response.start", "status": 200})

    async def no_thread(*_):
        raise AssertionError("a thread for nothing")

    monkeypatch.setattr(asyncio, "to_thread", no_thread)
    said = []

    async def send(message):
        said.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    asyncio.run(LitefsMiddleware(app, litefs)(scope, None, send))
    assert said == [{"type": "http.response.start", "status": 200}]


def test_without_a_secret():
    with pytest.raises(SettingsError, match="secret"):
        LitefsMiddleware(None, Litefs())
    LitefsMiddleware(None, Litefs(read_your_writes=False))


def test_bodies_are_streamed_through(litefs):
    """Each piece arrives before the next one is made."""
    order = []

    async def pieces():
        for number in range(3):
            order.append(f"made {number}")
            yield f"{number}"

    async def app(scope, receive, send):
        await StreamingResponse(pieces())(scope, receive, send)

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        if message.get("body"):
            order.append(f"sent {message['body'].decode()}")

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [],
        "asgi": {"spec_version": "2.4"},
    }
    asyncio.run(LitefsMiddleware(app, litefs)(scope, receive, send))
    assert order == [word for n in range(3) for word in (f"made {n}", f"sent {n}")]


def test_a_failure_after_the_response_began_is_raised(litefs):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise NodeDown("gone")

    async def nothing(*_):
        return None

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(NodeDown):
        asyncio.run(LitefsMiddleware(app, litefs)(scope, nothing, nothing))
