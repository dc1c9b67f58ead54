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
from litefs_py.usecases.forwarding import Answer, Forward, Hop

from litefs_fastapi import failures
from litefs_fastapi.cookies import Cookies
from litefs_fastapi.mode import reading

log = logging.getLogger("litefs_fastapi")

# A close code of WebSockets.
_TRY_AGAIN_LATER = 1013

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
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        mount: Mount = self.litefs.mount
        if self.rules.concern(scope["method"], scope["path"]):
            primary = await asyncio.to_thread(mount.primary)
            step = self.rules.before(scope["headers"], primary)
            if step is not None:
                await self._instead(step, scope, receive, send)
                return
        token = self.cookies.read(_cookie(scope))
        try:
            # On the primary a position that is not there was lost with the primary before, and never comes.
            if token and not await asyncio.to_thread(mount.is_primary):
                await mount.wait_async(token, self.litefs.settings.wait_timeout)
        except WaitTimeout as error:
            log.warning("%s: served all the same: %s", scope["path"], error)
        except NodeDown:
            await _answer(send, self.rules.unavailable())
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
                # A thread of its own is only worth it where there is something to read.
                asked = names and self.cookies.on
                if asked and (header := await self._header(mount, names, token, scope)):
                    headers = [*message.get("headers", []), (b"set-cookie", header.encode())]
                    message = {**message, "headers": headers}
            await send(message)

        with writes.watching() as names, reading(not write):
            try:
                await self.app(scope, receive, with_cookie)
            except Exception as error:
                failure = failures.safe_to_repeat(error)
                if begun or failure is None:
                    raise
            else:
                return
        step = self.rules.after(scope["method"], scope["path"], scope["headers"], failure)
        await self._instead(step, scope, receive, send)

    async def _socket(self, scope: Message, receive: Receive, send: Send) -> None:
        """A WebSocket is served here, or refused; it cannot be sent on."""
        if self.rules.concern("GET", scope["path"]):
            primary = await asyncio.to_thread(self.litefs.mount.primary)
            answer = self.rules.of_socket(scope["path"], primary)
            if answer is not None:
                await _refuse(scope, receive, send, answer)
                return
        await self.app(scope, receive, send)

    async def _header(
        self, mount: Mount, names: set[str], token: Token, scope: Message
    ) -> str | None:
        secure = scope.get("scheme") == "https"
        return await asyncio.to_thread(self.cookies.write, mount, set(names), token, secure)

    # To the primary

    async def _instead(
        self, step: Forward | Answer, scope: Message, receive: Receive, send: Send
    ) -> None:
        if isinstance(step, Answer):
            await _answer(send, step)
        else:
            await self._forward(step.url, scope, receive if step.body else _nothing, send)

    async def _forward(self, url: str, scope: Message, receive: Receive, send: Send) -> None:
        first = await receive()
        if first["type"] == "http.disconnect":
            return
        request = forward.Outgoing(
            url, _target(scope), scope["method"], _outward(scope), _length(scope, first),
            self.litefs.settings.forward_timeout,
        )  # fmt: skip
        try:
            answer = await forward.send_async(request, _body(first, receive))
        except forward.NotSent as error:
            log.warning("%s: the primary is not reached: %s", scope["path"], error)
            await _answer(send, self.rules.unavailable())
        except forward.NoAnswer as error:
            log.error("%s: no answer from the primary: %s", scope["path"], error)
            await _answer(send, forwarding.no_answer())
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


async def _answer(send: Send, answer: Answer, protocol: str = "http") -> None:
    start = {"type": f"{protocol}.response.start", "status": answer.status}
    await send({**start, "headers": answer.headers})
    await send({"type": f"{protocol}.response.body", "body": answer.text})


async def _refuse(scope: Message, receive: Receive, send: Send, answer: Answer) -> None:
    """Before the handshake, by an HTTP answer where the server can; others make a 403 of it."""
    await receive()
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await _answer(send, answer, "websocket.http")
    else:
        await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER})


def _cookie(scope: Message) -> str:
    found = [value for name, value in scope["headers"] if name == b"cookie"]
    return b"; ".join(found).decode("latin-1")
