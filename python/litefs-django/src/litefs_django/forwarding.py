"""Where only the primary writes (`engine: litefs`): a replica sends requests that write to the primary's application."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from litefs_py import NotPrimaryError
from litefs_py.adapters import forward
from litefs_py.usecases import forwarding
from litefs_py.usecases.forwarding import PRIMARY, Hop, Verdict

from litefs_django import conf

log = logging.getLogger("litefs_django")


class Forwarded(StreamingHttpResponse):
    """What the primary's application said, header by header: several of one name stay several."""

    def __init__(self, answer: Any) -> None:
        super().__init__(answer, status=answer.status)
        self._said = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in answer.headers]
        del self.headers["Content-Type"]
        for name, value in self._said:
            self.headers[name] = value

    def items(self) -> Iterable[tuple[str, str]]:
        """What the server sends."""
        return [(name.title(), value) for name, value in self._said]


def unavailable() -> HttpResponse:
    """503: nothing was committed, another node may be asked the same."""
    response = _plain(503, "The database is not available at this moment.\n")
    response["Retry-After"] = str(conf.litefs().retry_after)
    return response


def not_here(primary: str | None) -> HttpResponse:
    """Nothing was committed; who may write is in a header."""
    response = _plain(conf.litefs().not_primary_status, "This node must not write.\n")
    if response.status_code == 503:
        response["Retry-After"] = str(conf.litefs().retry_after)
    if primary is not None:
        response[PRIMARY] = primary
    return response


def no_answer() -> HttpResponse:
    """504, and not 502: a load balancer that tries a 502 again would do it twice."""
    return _plain(504, "The node that writes did not answer; it may have done what was asked.\n")


def _plain(status: int, text: str) -> HttpResponse:
    response = HttpResponse(text, status=status, content_type="text/plain")
    response["Cache-Control"] = "no-store"
    return response


def is_of_concern(request: HttpRequest) -> bool:
    """Whether a replica does not simply serve it."""
    return conf.litefs().rules.concern(request.method, request.path)


def verdict(request: HttpRequest, primary: str | None) -> Verdict:
    """What becomes of one that is of concern, before anything else is done."""
    return conf.litefs().rules.verdict(primary, forwarding.has_hopped(_headers(request)))


def primary_after(request: HttpRequest, error: BaseException | None) -> str | None:
    """Where a request can be done that only seemed to read, and failed here."""
    if not isinstance(error, NotPrimaryError):
        return None
    rules, headers = conf.litefs().rules, _headers(request)
    if (
        not rules.may_run_twice(request.method, request.path)
        or forwarding.has_body(headers)
        or forwarding.has_hopped(headers)
        or rules.url(error.primary) is None
    ):
        return None
    return error.primary


def send(request: HttpRequest, primary: str | None, body: bool = True) -> HttpResponse:
    """To the primary's application, and its answer back."""
    going, pieces = _outgoing(request, primary, body)
    try:
        return Forwarded(forward.send(going, pieces))
    except forward.NotSent as error:
        return _not_sent(request, error)
    except forward.NoAnswer as error:
        return _no_answer(request, error)


async def send_async(request: HttpRequest, primary: str | None, body: bool = True) -> HttpResponse:
    """The same for asyncio."""
    going, pieces = await sync_to_async(_outgoing, thread_sensitive=False)(request, primary, body)
    try:
        return Forwarded(await forward.send_async(going, _awaited(pieces)))
    except forward.NotSent as error:
        return _not_sent(request, error)
    except forward.NoAnswer as error:
        return _no_answer(request, error)


def _not_sent(request: HttpRequest, error: Exception) -> HttpResponse:
    log.warning("%s: the primary is not reached: %s", request.path, error)
    return unavailable()


def _no_answer(request: HttpRequest, error: Exception) -> HttpResponse:
    log.error("%s: no answer from the primary: %s", request.path, error)
    return no_answer()


async def _awaited(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Django has the whole body in memory, or in a file, when it serves by ASGI."""

    @sync_to_async(thread_sensitive=False)
    def step() -> bytes:
        return next(pieces, b"")

    while piece := await step():
        yield piece


def _outgoing(
    request: HttpRequest, primary: str | None, body: bool
) -> tuple[forward.Outgoing, Iterator[bytes]]:
    headers = _headers(request)
    length = forwarding.length(headers) if body else 0
    if length is None and not forwarding.is_chunked(headers):
        length = 0
    pieces = forward.pieces(request, length)
    if length is None:
        # By WSGI Django gives out no body of an unknown length.
        first = next(pieces, b"")
        length, pieces = (None, _again(first, pieces)) if first else (0, iter(()))
    scheme = "https" if request.is_secure() else "http"
    hop = Hop(os.uname().nodename, request.META.get("REMOTE_ADDR"), scheme)
    url = conf.litefs().rules.url(primary)
    assert url is not None
    path, _, query = request.get_full_path().partition("?")
    target = forwarding.target(path.encode(), query.encode())
    seconds = conf.litefs().forward_timeout
    going = forward.Outgoing(
        url, target, request.method, forwarding.outward(headers, hop), length, seconds
    )
    return going, pieces


def _again(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from pieces


def _headers(request: HttpRequest) -> forwarding.Headers:
    return forwarding.of_environ(request.META)
