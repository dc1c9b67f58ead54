"""Cookies and 503, without a node."""

import asyncio
import time

import pytest
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from litefs_py import NodeDown, Token, WaitTimeout
from litefs_py.domain import cookie
from litefs_py.usecases import writes

NAME = "litefs_position"


class PlayedMount:
    """Stands in for a mount: what was waited for, and where it is."""

    leads = False

    def __init__(self, positions=(), error=None):
        self.positions, self.error, self.waited = dict(positions), error, []

    def wait(self, token, timeout):
        self.waited.append((dict(token), timeout))
        if self.error:
            raise self.error

    async def wait_async(self, token, timeout):
        self.wait(token, timeout)

    def is_primary(self):
        return self.leads

    def token(self, *names):
        return Token({name: self.positions[name] for name in names})


@pytest.fixture
def play(litefs, monkeypatch):
    def start(mount, **settings):
        conf = litefs(MOUNT="/litefs", **settings)
        monkeypatch.setattr(conf, "mount", lambda: mount)
        monkeypatch.setattr(conf, "database_names", lambda: {"default": "app.db"})
        return conf

    return start


def respond(written=(), awaited=False):
    from litefs_django.middleware import LitefsMiddleware

    def view(request):
        for name in written:
            writes.wrote(name)
        return HttpResponse("x")

    async def view_async(request):
        await asyncio.to_thread(view, request)
        return HttpResponse("x")

    middleware = LitefsMiddleware(view_async if awaited else view)

    def run(value=None):
        request = RequestFactory().get("/")
        if value is not None:
            request.COOKIES[NAME] = value
        response = middleware(request)
        return asyncio.run(response) if awaited else response

    return run


both = pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])


@both
def test_who_wrote_gets_a_position_and_waits_for_it(play, awaited):
    mount = PlayedMount({"app.db": 7})
    conf = play(mount)
    response = respond(["app.db"], awaited)()
    value = response.cookies[NAME].value
    assert dict(cookie.read(value, conf.keys(), time.time())) == {"app.db": 7}
    assert response.cookies[NAME]["httponly"]
    assert mount.waited == []
    later = respond(awaited=awaited)(value)
    assert mount.waited == [({"app.db": 7}, 1.0)]
    assert NAME not in later.cookies


@both
def test_a_position_that_does_not_come_is_served_all_the_same(play, awaited, caplog):
    conf = play(PlayedMount(error=WaitTimeout("late")))
    value = cookie.sign(Token({"app.db": 9}), conf.keys()[0], time.time())
    assert respond(awaited=awaited)(value).status_code == 200
    assert "served all the same" in caplog.text


@both
def test_a_primary_waits_for_nothing(play, awaited):
    """What is not there was lost with the primary before."""
    mount = PlayedMount()
    mount.leads = True
    conf = play(mount)
    value = cookie.sign(Token({"app.db": 9}), conf.keys()[0], time.time())
    assert respond(awaited=awaited)(value).status_code == 200
    assert mount.waited == []


@both
def test_a_node_that_is_down(play, awaited):
    conf = play(PlayedMount(error=NodeDown("gone")), RETRY_AFTER=3)
    value = cookie.sign(Token({"app.db": 9}), conf.keys()[0], time.time())
    response = respond(awaited=awaited)(value)
    assert (response.status_code, response["Retry-After"]) == (503, "3")


def test_cookies_that_are_not_ours_are_ignored(play):
    mount = PlayedMount()
    conf = play(mount)
    now = time.time()
    good = Token({"app.db": 9})
    strange = [
        "", "x", "1.2.3.4", "é", "a" * 5000,
        cookie.sign(good, b"another key", now),
        cookie.sign(good, conf.keys()[0], now - 3600),
        cookie.sign(Token({"other.db": 9}), conf.keys()[0], now),
    ]  # fmt: skip
    for value in strange:
        assert respond()(value).status_code == 200
    assert mount.waited == []


def test_an_older_key_is_still_good(play):
    from django.test.utils import override_settings

    mount = PlayedMount()
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]):
        play(mount)
        respond()(cookie.sign(Token({"app.db": 9}), b"old", time.time()))
    assert mount.waited


def test_the_cookie_keeps_what_other_databases_have(play):
    mount = PlayedMount({"app.db": 7})
    conf = play(mount)
    conf.database_names = lambda: {"default": "app.db", "other": "other.db"}
    before = cookie.sign(Token({"other.db": 3, "app.db": 5}), conf.keys()[0], time.time())
    value = respond(["app.db"])(before).cookies[NAME].value
    assert dict(cookie.read(value, conf.keys(), time.time())) == {"app.db": 7, "other.db": 3}


def test_it_can_be_switched_off(play):
    conf = play(PlayedMount({"app.db": 7}), READ_YOUR_WRITES=False)
    value = cookie.sign(Token({"app.db": 9}), conf.keys()[0], time.time())
    assert NAME not in respond(["app.db"])(value).cookies


@pytest.mark.parametrize(
    ("which", "code"),
    [
        ("NodeDown", 503),
        ("QuorumLost", 503),
        ("NotPrimaryError", 503),
        ("CommitOutcomeUnknown", 500),
    ],
)
def test_errors_of_views(which, code):
    assert Client(raise_request_exception=False).get(f"/fail/{which}").status_code == code


def test_an_unknown_outcome_of_a_view_that_may_run_twice(monkeypatch):
    import litefs_django.errors as errors
    from notes import views

    def unknown(request, text):
        raise errors.CommitOutcomeUnknown("open")

    monkeypatch.setattr(views, "add", unknown)
    client = Client(raise_request_exception=False)
    assert client.get("/add-again/x").status_code == 503


def test_errors_of_other_middleware(monkeypatch):
    """A session is saved when the view is over."""
    import litefs_django.errors as errors
    from django.contrib.sessions.backends.db import SessionStore

    def down(self, must_create=False):
        raise errors.NodeDown("gone")

    monkeypatch.setattr(SessionStore, "save", down)
    assert Client(raise_request_exception=False).get("/session").status_code == 503


def test_a_session_that_cannot_be_saved(monkeypatch):
    """Django takes any error of the database for a session that was deleted meanwhile: 400."""
    import litefs_django.errors as errors
    from django.contrib.sessions.backends.base import UpdateError
    from django.contrib.sessions.backends.db import SessionStore

    def down(self, must_create=False):
        errors.raised(errors.QuorumLost("nobody leads"))
        raise UpdateError

    monkeypatch.setattr(SessionStore, "save", down)
    assert Client(raise_request_exception=False).get("/session").status_code == 503


def test_requests_without_a_node():
    client = Client()
    assert client.get("/add/x").content == b"added"
    assert client.get("/session").content == b"1"
    assert client.get("/session").content == b"2"
    assert NAME not in client.cookies
    assert client.get("/health/").json() == {"state": "no node", "role": "primary"}
    assert client.get("/health/nothing").status_code in (200, 404)


def test_requests_that_are_awaited():
    async def ask():
        client = AsyncClient()
        before = int((await client.get("/async/count")).content)
        await client.get("/async/add/x")
        assert int((await client.get("/async/count")).content) == before + 1

    asyncio.run(ask())
