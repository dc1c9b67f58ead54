"""Middleware for any ASGI application: read-your-writes, and 503 while the node cannot serve.

Bodies pass through untouched, in both directions. Requests by safe methods begin their transactions DEFERRED, others
IMMEDIATE (see `litefs_fastapi.sqlalchemy`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from litefs_py import NodeDown, Token, WaitTimeout
from litefs_py.adapters.mount import Mount
from litefs_py.usecases import writes

from litefs_fastapi.cookies import Cookies
from litefs_fastapi.failures import TEXT, is_safe_to_repeat
from litefs_fastapi.mode import reading

log = logging.getLogger("litefs_fastapi")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


class LitefsMiddleware:
    """`app = LitefsMiddleware(app, litefs)`; FastAPI: `litefs.install(app)`."""

    def __init__(self, app: App, litefs: Any) -> None:
        self.app, self.litefs = app, litefs
        self.cookies = Cookies(litefs.settings)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        mount: Mount = self.litefs.mount
        token = self.cookies.read(_cookie(scope))
        try:
            if token:
                await mount.wait_async(token, self.litefs.settings.wait_timeout)
        except WaitTimeout as error:
            log.warning("%s: served all the same: %s", scope["path"], error)
        except NodeDown:
            await self._unavailable(send)
            return
        await self._serve(scope, receive, send, mount, token)

    async def _serve(
        self, scope: Message, receive: Receive, send: Send, mount: Mount, token: Token
    ) -> None:
        begun = False

        async def with_cookie(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                if names and (header := await self._header(mount, names, token, scope)):
                    headers = [*message.get("headers", []), (b"set-cookie", header.encode())]
                    message = {**message, "headers": headers}
            await send(message)

        with writes.watching() as names, reading(scope["method"] in SAFE_METHODS):
            try:
                await self.app(scope, receive, with_cookie)
            except Exception as error:
                if begun or not is_safe_to_repeat(error):
                    raise
                await self._unavailable(send)

    async def _header(
        self, mount: Mount, names: set[str], token: Token, scope: Message
    ) -> str | None:
        secure = scope.get("scheme") == "https"
        return await asyncio.to_thread(self.cookies.write, mount, set(names), token, secure)

    async def _unavailable(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/plain"),
            (b"content-length", str(len(TEXT)).encode()),
            (b"retry-after", str(self.litefs.settings.retry_after).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": TEXT})


def _cookie(scope: Message) -> str:
    found = [value for name, value in scope["headers"] if name == b"cookie"]
    return b"; ".join(found).decode("latin-1")
