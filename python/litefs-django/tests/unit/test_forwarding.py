"""Requests that write, on a replica that is played: what reaches the primary's application, and what comes back."""

import asyncio
import http.server

import pytest
from django.http import HttpResponse
from django.test import AsyncRequestFactory, RequestFactory


class PlayedMount:
    """Of a replica that follows n1."""

    follows = "n1"

    def primary(self):
        return self.follows

    def is_primary(self):
        return self.follows is None


class Primary(http.server.BaseHTTPRequestHandler):
    """Keeps what it was sent."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.got.append((self.command, self.path, self.headers, body))
        if self.path == "/silent":
            self.server.end.wait(20)
            return
        self.send_response(201)
        self.send_header("Set-Cookie", "litefs_position=x; HttpOnly")
        self.send_header("Set-Cookie", "session=y; Path=/; SameSite=Lax")
        self.send_header("Content-Type", "text/x")
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"made")

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *_):
        pass


@pytest.fixture
def primary(serve_primary):
    return serve_primary(Primary)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def ask(request, litefs, monkeypatch):
    """A request to the middleware, with a view behind it; its answer, read."""
    from litefs_django import errors
    from litefs_django.middleware import LitefsMiddleware

    awaited = request.param
    mount = PlayedMount()

    def start(**settings):
        conf = litefs(MOUNT="/litefs", **settings)
        monkeypatch.setattr(conf, "mount", lambda: mount)

        def view(request):
            if request.path == "/writes":
                # As the handler does with an exception of a view.
                return middleware.process_exception(
                    request, errors.NotPrimaryError("it writes", "n1")
                )
            return HttpResponse("here")

        async def view_async(request):
            return view(request)

        middleware = LitefsMiddleware(view_async if awaited else view)
        factory = AsyncRequestFactory() if awaited else RequestFactory()

        async def read(response):
            response = await response
            content = response.content if not response.streaming else b""
            if response.streaming:
                content = b"".join([piece async for piece in response])
            return response, content

        def run(method, path, body=b"", **headers):
            names = {"headers": headers} if awaited else {}
            meta = {"HTTP_HOST": "testserver"} | {
                f"HTTP_{name.upper()}": value for name, value in headers.items()
            }
            made = factory.generic(method, path, body, "text/x", **(names or meta))
            if awaited:
                response, content = asyncio.run(read(middleware(made)))
            else:
                response = middleware(made)
                content = b"".join(response) if response.streaming else response.content
            response.close()
            return response, content

        return run

    start.mount = mount
    return start


def test_what_writes_goes_to_the_primary(ask, primary):
    run = ask(FORWARD={"n1": primary.url})
    response, content = run("POST", "/a%20b/e?q=%2F", b"x" * 200_000, X_OWN="a=1")
    ((method, path, sent, body),) = primary.got
    assert (method, path, body) == ("POST", "/a%20b/e?q=%2F", b"x" * 200_000)
    assert sent["host"] == "testserver"
    assert sent["x-own"] == "a=1"
    assert sent["content-type"] == "text/x"
    assert sent["x-forwarded-for"] == "127.0.0.1"
    assert sent["litefs-forwarded-by"]
    assert (response.status_code, content) == (201, b"made")
    cookies = [value for name, value in response.items() if name == "Set-Cookie"]
    assert cookies == ["litefs_position=x; HttpOnly", "session=y; Path=/; SameSite=Lax"]
    assert response["Content-Type"] == "text/x"


def test_what_reads_and_what_the_primary_gets_is_served_here(ask, primary):
    run = ask(FORWARD={"n1": primary.url}, LOCAL_PATHS=["/here"])
    assert run("GET", "/x")[1] == b"here"
    assert run("POST", "/here/x")[1] == b"here"
    ask.mount.follows = None
    assert run("POST", "/x")[1] == b"here"
    assert primary.got == []


def test_at_most_one_hop(ask, primary):
    run = ask(FORWARD={"n1": primary.url})
    for method, path in (("POST", "/x"), ("GET", "/writes")):
        response, _ = run(method, path, LITEFS_FORWARDED_BY="n3")
        assert (response.status_code, response["Litefs-Primary"]) == (503, "n1")
    assert primary.got == []


def test_what_turns_out_to_write(ask, primary):
    run = ask(FORWARD={"n1": primary.url})
    assert run("GET", "/writes")[0].status_code == 201
    assert [got[:2] for got in primary.got] == [("GET", "/writes")]
    assert run("GET", "/writes", b"a body")[0].status_code == 503
    assert len(primary.got) == 1


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"REFUSE_WRITES": True}, 503),
        ({"REFUSE_WRITES": True, "NOT_PRIMARY_STATUS": 421}, 421),
        ({"FORWARD": {"n3": "http://127.0.0.1:9"}}, 503),
    ],
)
def test_refused(ask, settings, code):
    run = ask(**settings)
    response, _ = run("POST", "/x")
    assert (response.status_code, response["Litefs-Primary"]) == (code, "n1")
    assert response.get("Retry-After") == ("1" if code == 503 else None)
    assert run("GET", "/x")[1] == b"here"


def test_without_a_setting_the_view_finds_out(ask):
    run = ask()
    assert run("POST", "/x")[1] == b"here"
    response, _ = run("POST", "/writes")
    assert (response.status_code, response["Litefs-Primary"]) == (503, "n1")


def test_a_primary_that_is_not_there(ask, primary):
    run = ask(FORWARD={"n1": "http://127.0.0.1:1"})
    response, _ = run("POST", "/x", b"x")
    assert (response.status_code, response["Retry-After"]) == (503, "1")


def test_a_primary_that_may_have_done_it(ask, primary):
    """No 502, no Retry-After: nobody is to send it again by himself."""
    run = ask(FORWARD={"n1": primary.url}, FORWARD_TIMEOUT=0.3)
    response, _ = run("POST", "/silent", b"x")
    assert (response.status_code, response.get("Retry-After")) == (504, None)
    assert len(primary.got) == 1
