"""Read-your-writes, 503 in place of an error page while a node cannot serve, and where only the primary writes
(`engine: litefs`) requests that write go on to the primary's application.

To be the first of MIDDLEWARE: it has to see the sessions that others save when the view is over.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.signals import got_request_exception
from django.http import HttpRequest, HttpResponse
from litefs_py import (
    CommitOutcomeUnknown,
    LitefsError,
    NodeDown,
    Token,
    WaitTimeout,
)
from litefs_py.domain import cookie
from litefs_py.domain.errors import SAFE_TO_REPEAT
from litefs_py.usecases import writes
from litefs_py.usecases.forwarding import Answer, Forward

from litefs_django import conf, errors, forwarding

log = logging.getLogger("litefs_django")


class LitefsMiddleware:
    """Who wrote gets a cookie with the positions; whoever brings one is served when this node is there."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._awaits = iscoroutinefunction(get_response)
        if self._awaits:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        """As Django has it."""
        if self._awaits:
            return self._async(request)
        return self._sync(request)

    def _sync(self, request: HttpRequest) -> HttpResponse:
        if forwarding.is_of_concern(request):
            primary = conf.mount().primary()
            step = forwarding.before(request, primary)
            if step is not None:
                return forwarding.do(request, step)
        token = _token(request)
        try:
            _wait(token)
        except WaitTimeout as error:
            log.warning("%s: served all the same: %s", request.path, error)
        except NodeDown:
            return forwarding.respond(forwarding.rules().unavailable())
        with writes.watching() as names, errors.watching() as raised:
            response = self.get_response(request)
        _look_behind(request, response, raised)
        step = _step_after(request, response)
        if step is not None:
            return forwarding.do(request, step)
        return _answer(request, response, token, names)

    async def _async(self, request: HttpRequest) -> HttpResponse:
        if forwarding.is_of_concern(request):
            primary = await sync_to_async(conf.mount().primary, thread_sensitive=False)()
            step = forwarding.before(request, primary)
            if step is not None:
                return await forwarding.do_async(request, step)
        token = _token(request)
        try:
            await _wait_async(token)
        except WaitTimeout as error:
            log.warning("%s: served all the same: %s", request.path, error)
        except NodeDown:
            return forwarding.respond(forwarding.rules().unavailable())
        with writes.watching() as names, errors.watching() as raised:
            response = await self.get_response(request)
        _look_behind(request, response, raised)
        step = _step_after(request, response)
        if step is not None:
            return await forwarding.do_async(request, step)
        return _answer(request, response, token, names)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Of a view: no error page, and no traceback in the log, where the next node will do."""
        if not _may_be_repeated(request, error):
            return None
        request._litefs_error = error
        return forwarding.respond(forwarding.rules().failed(error))


def _step_after(request: HttpRequest, response: HttpResponse) -> Forward | Answer | None:
    """Whether something else takes the place of a response: nothing was committed for it."""
    error = getattr(request, "_litefs_error", None)
    if error is None:
        return None
    step = forwarding.after(request, error)
    # What a view made of its exception by itself stays, where nobody can do better.
    return step if isinstance(step, Forward) or response.status_code in (400, 500) else None


def _look_behind(request: HttpRequest, response: HttpResponse, raised: list[LitefsError]) -> None:
    """A session that cannot be saved becomes a 400, as if somebody had logged out meanwhile (UpdateError)."""
    if response.status_code == 400 and raised and isinstance(raised[-1], SAFE_TO_REPEAT):
        request._litefs_error = raised[-1]


def _wait(token: Token | None) -> None:
    # On the primary a position that is not there was lost with the primary before, and never comes.
    if token and not conf.mount().is_primary():
        conf.mount().wait(token, conf.litefs().wait_timeout)


async def _wait_async(token: Token | None) -> None:
    if token and not await sync_to_async(conf.mount().is_primary, thread_sensitive=False)():
        await conf.mount().wait_async(token, conf.litefs().wait_timeout)


def _token(request: HttpRequest) -> Token | None:
    settings = conf.litefs()
    value = request.COOKIES.get(settings.cookie_name)
    if not value or not settings.read_your_writes or not settings.enabled:
        return None
    token = cookie.read(value, conf.keys(), time.time())
    known = set(conf.database_names().values())
    return Token({name: txid for name, txid in (token or {}).items() if name in known})


def _answer(
    request: HttpRequest, response: HttpResponse, token: Token | None, names: set[str]
) -> HttpResponse:
    settings = conf.litefs()
    if not names or not settings.read_your_writes or not settings.enabled:
        return response
    try:
        now = conf.mount().token(*names)
    except NodeDown:
        # It was committed; only where is not known.
        return response
    value = cookie.sign((token or Token()).joined(now), conf.keys()[0], time.time())
    if value:
        response.set_cookie(
            settings.cookie_name,
            value,
            max_age=settings.cookie_max_age,
            httponly=True,
            secure=request.is_secure(),
            samesite="Lax",
        )
    return response


def _may_be_repeated(request: HttpRequest, error: BaseException | None) -> bool:
    if isinstance(error, CommitOutcomeUnknown):
        match = request.resolver_match
        return bool(match and getattr(match.func, "litefs_idempotent", False))
    return isinstance(error, SAFE_TO_REPEAT)


def _noticed(sender: Any, request: HttpRequest | None = None, **_: Any) -> None:
    """An exception outside of views, as of a session that is saved: Django has made a 500 of it already."""
    error = sys.exc_info()[1]
    if request is not None and _may_be_repeated(request, error):
        request._litefs_error = error


got_request_exception.connect(_noticed, dispatch_uid="litefs_django")
