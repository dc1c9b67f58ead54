"""Middleware for any ASGI application: read-your-writes, 503 while the node cannot serve, and where only the primary
writes (`engine: litefs`) requests that write go on to the primary's application.

Bodies pass through untouched, in both directions. Requests that only read begin their transactions DEFERRED, others
IMMEDIATE (see `litefs_fastapi.sqlalchemy`).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

from litefs_py import NodeDown, Token, WaitTimeout
from litefs_py.adapters import forward
from litefs_py.adapters.mount import Mount
from litefs_py.usecases import forwarding, writes
from litefs_py.usecases.forwarding import Hop, Verdict

from litefs_fastapi import failures
from litefs_fastapi.cookies import Cookies
from litefs_fastapi.mode import reading

log = logging.getLogger("litefs_fastapi")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class LitefsMiddleware:
    """`app = LitefsMiddleware(app, litefs)`; FastAPI: `litefs.install(app)`."""

    def __init__(self, app: App, litefs: Any) -> None:
        self.app, self.litefs = app, litefs
        self.cookies = Cookies(litefs.settings)
        self.rules: forwarding.Rules = litefs.settings.rules

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        mount: Mount = self.litefs.mount
        if self.rules.concern(scope["method"], scope["path"]):
            primary = await asyncio.to_thread(mount.primary)
            hopped = forwarding.has_hopped(scope["headers"])
            verdict = self.rules.verdict(primary, hopped)
            if verdict is Verdict.FORWARD:
                await self._forward(scope, receive, send, primary)
                return
            if verdict is Verdict.REFUSE:
                await _answer(send, failures.not_here(self.litefs.settings, primary))
                return
        token = self.cookies.read(_cookie(scope))
        try:
            # On the primary a position that is not there was lost with the primary before, and never comes.
            if token and not await asyncio.to_thread(mount.is_primary):
                await mount.wait_async(token, self.litefs.settings.wait_timeout)
        except WaitTimeout as error:
            log.warning("%s: served all the same: %s", scope["path"], error)
        except NodeDown:
            await _answer(send, failures.unavailable(self.litefs.settings))
            return
        await self._serve(scope, receive, send, mount, token)

    async def _serve(
        self, scope: Message, receive: Receive, send: Send, mount: Mount, token: Token
    ) -> None:
        begun = False
        write = self.rules.is_write(scope["method"], scope["path"])

        async def with_cookie(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                if names and (header := await self._header(mount, names, token, scope)):
                    headers = [*message.get("headers", []), (b"set-cookie", header.encode())]
                    message = {**message, "headers": headers}
            await send(message)

        with writes.watching() as names, reading(not write):
            try:
                await self.app(scope, receive, with_cookie)
            except Exception as error:
                if begun or not failures.is_safe_to_repeat(error):
                    raise
                failure = error
            else:
                return
        await self._failed(scope, send, failure)

    async def _failed(self, scope: Message, send: Send, failure: Exception) -> None:
        """Nothing was committed. What only seemed to read can be done on the primary."""
        refused = failures.not_primary(failure)
        headers = scope["headers"]
        if (
            refused is not None
            and self.rules.may_run_twice(scope["method"], scope["path"])
            and not forwarding.has_body(headers)
            and not forwarding.has_hopped(headers)
            and self.rules.url(refused.primary) is not None
        ):
            await self._forward(scope, _nothing, send, refused.primary)
            return
        await _answer(send, failures.of_failure(self.litefs.settings, failure))

    async def _header(
        self, mount: Mount, names: set[str], token: Token, scope: Message
    ) -> str | None:
        secure = scope.get("scheme") == "https"
        return await asyncio.to_thread(self.cookies.write, mount, set(names), token, secure)

    # To the primary

    async def _forward(
        self, scope: Message, receive: Receive, send: Send, primary: str | None
    ) -> None:
        first = await receive()
        if first["type"] == "http.disconnect":
            return
        url = self.rules.url(primary)
        assert url is not None
        request = forward.Outgoing(
            url, _target(scope), scope["method"], _outward(scope), _length(scope, first),
            self.litefs.settings.forward_timeout,
        )  # fmt: skip
        try:
            answer = await forward.send_async(request, _body(first, receive))
        except forward.NotSent as error:
            log.warning("%s: the primary is not reached: %s", scope["path"], error)
            await _answer(send, failures.unavailable(self.litefs.settings))
        except forward.NoAnswer as error:
            log.error("%s: no answer from the primary: %s", scope["path"], error)
            await _answer(send, failures.no_answer())
        except _ClientGone:
            log.info("%s: the client went away", scope["path"])
        else:
            await _relay(send, answer)


class _ClientGone(Exception):
    """In the middle of its request."""


async def _relay(send: Send, answer: forward.AsyncIncoming) -> None:
    try:
        start = {"type": "http.response.start", "status": answer.status}
        await send({**start, "headers": answer.headers})
        async with aclosing(answer.__aiter__()) as body:
            async for piece in body:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        await answer.aclose()


async def _body(first: Message, receive: Receive) -> AsyncIterator[bytes]:
    message = first
    while True:
        if message["type"] == "http.disconnect":
            raise _ClientGone
        if piece := message.get("body"):
            yield piece
        if not message.get("more_body"):
            return
        message = await receive()


async def _nothing() -> Message:
    return {"type": "http.request", "body": b""}


def _length(scope: Message, first: Message) -> int | None:
    told = forwarding.length(scope["headers"])
    if told is not None or first.get("more_body"):
        return told
    return len(first.get("body", b""))


def _outward(scope: Message) -> forwarding.Headers:
    client = scope.get("client")
    hop = Hop(os.uname().nodename, client[0] if client else None, scope.get("scheme", "http"))
    return forwarding.outward(scope["headers"], hop)


def _target(scope: Message) -> bytes:
    path = scope.get("raw_path") or quote(scope["path"]).encode()
    return forwarding.target(path, scope.get("query_string", b""))


async def _answer(send: Send, answer: failures.Answer) -> None:
    status, headers, text = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def _cookie(scope: Message) -> str:
    found = [value for name, value in scope["headers"] if name == b"cookie"]
    return b"; ".join(found).decode("latin-1")
