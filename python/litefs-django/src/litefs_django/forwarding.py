"""Where only the primary writes (`engine: litefs`): a replica sends requests that write to the primary's application."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from litefs_py.adapters import forward
from litefs_py.usecases import forwarding
from litefs_py.usecases.forwarding import Answer, Forward, Hop

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


def is_of_concern(request: HttpRequest) -> bool:
    """Whether a replica does not simply serve it."""
    return rules().concern(request.method, request.path)


def before(request: HttpRequest, primary: str | None) -> Forward | Answer | None:
    """What becomes of one that is of concern; none: the view here serves it."""
    return rules().before(_headers(request), primary)


def after(request: HttpRequest, error: BaseException) -> Forward | Answer:
    """What becomes of one that failed here, when nothing was committed."""
    return rules().after(request.method, request.path, _headers(request), error)


def rules() -> forwarding.Rules:
    """Of the settings."""
    return conf.litefs().rules


def respond(answer: Answer) -> HttpResponse:
    """The middleware's own answer, as Django has it."""
    response = HttpResponse(answer.text, status=answer.status)
    for name, value in answer.headers:
        response[name.decode().title()] = value.decode("latin-1")
    return response


def do(request: HttpRequest, step: Forward | Answer) -> HttpResponse:
    """What was decided: to the primary's application, and its answer back, or an answer of our own."""
    if isinstance(step, Answer):
        return respond(step)
    going, pieces = _outgoing(request, step)
    try:
        return Forwarded(forward.send(going, pieces))
    except forward.NotSent as error:
        return _not_sent(request, error)
    except forward.NoAnswer as error:
        return _no_answer(request, error)


async def do_async(request: HttpRequest, step: Forward | Answer) -> HttpResponse:
    """The same for asyncio."""
    if isinstance(step, Answer):
        return respond(step)
    going, pieces = await sync_to_async(_outgoing, thread_sensitive=False)(request, step)
    try:
        return Forwarded(await forward.send_async(going, _awaited(pieces)))
    except forward.NotSent as error:
        return _not_sent(request, error)
    except forward.NoAnswer as error:
        return _no_answer(request, error)


def _not_sent(request: HttpRequest, error: Exception) -> HttpResponse:
    log.warning("%s: the primary is not reached: %s", request.path, error)
    return respond(rules().unavailable())


def _no_answer(request: HttpRequest, error: Exception) -> HttpResponse:
    log.error("%s: no answer from the primary: %s", request.path, error)
    return respond(forwarding.no_answer())


async def _awaited(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Django has the whole body in memory, or in a file, when it serves by ASGI."""

    @sync_to_async(thread_sensitive=False)
    def step() -> bytes:
        return next(pieces, b"")

    while piece := await step():
        yield piece


def _outgoing(request: HttpRequest, step: Forward) -> tuple[forward.Outgoing, Iterator[bytes]]:
    headers = _headers(request)
    length = forwarding.announced(headers, endless=True) if step.body else 0
    pieces = forward.pieces(request, length)
    if length is None:
        # By WSGI Django gives out no body of an unknown length.
        first = next(pieces, b"")
        length, pieces = (None, _again(first, pieces)) if first else (0, iter(()))
    scheme = "https" if request.is_secure() else "http"
    hop = Hop(os.uname().nodename, request.META.get("REMOTE_ADDR"), scheme)
    path, _, query = request.get_full_path().partition("?")
    target = forwarding.target(path.encode(), query.encode())
    seconds = conf.litefs().forward_timeout
    going = forward.Outgoing(
        step.url, target, request.method, forwarding.outward(headers, hop), length, seconds
    )
    return going, pieces


def _again(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from pieces


def _headers(request: HttpRequest) -> forwarding.Headers:
    return forwarding.of_environ(request.META)
