"""Sends a request on to the application on the primary's machine: bodies as they come, in both directions.

By httpx's transports, one connection for each request: no cookie of one user meets the next one's, and no request goes
down a connection that the other side is about to close. What was sent is never sent again.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import httpx

from litefs_py.adapters.http.wire import bounded
from litefs_py.usecases.forwarding import Headers, inward

_PIECE = 65536
# No connection is kept.
_LIMITS = httpx.Limits(max_connections=1, max_keepalive_connections=0)
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class NotSent(Exception):
    """Nobody is there: nothing was done, so another try does no harm."""


class NoAnswer(Exception):
    """It was sent, at least in part, and there is no answer: it may have been done."""


@dataclass(frozen=True)
class Outgoing:
    """A request as it goes on. `length`: of its body; none where that is not known, 0 where there is none."""

    url: str
    target: bytes
    method: str
    headers: Headers
    length: int | None
    seconds: float


class Incoming:
    """An answer, whose body is read as it comes. To be closed, also where nobody reads it."""

    def __init__(self, response: httpx.Response, transport: httpx.HTTPTransport) -> None:
        self.status = response.status_code
        self.headers = inward(response.headers.raw)
        self._response, self._transport = response, transport

    def __iter__(self) -> Iterator[bytes]:
        assert isinstance(self._response.stream, httpx.SyncByteStream)
        try:
            yield from self._response.stream
        finally:
            self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._response.close()
        self._transport.close()


class AsyncIncoming:
    """The same for asyncio."""

    def __init__(self, response: httpx.Response, transport: httpx.AsyncHTTPTransport) -> None:
        self.status = response.status_code
        self.headers = inward(response.headers.raw)
        self._response, self._transport = response, transport

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        assert isinstance(self._response.stream, httpx.AsyncByteStream)
        try:
            async for piece in self._response.stream:
                yield piece
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Ends the connection."""
        await self._response.aclose()
        await self._transport.aclose()


def pieces(file: object, length: int | None) -> Iterator[bytes]:
    """A body from something with `read`: as much of it as was announced, or until its end."""
    left = length
    while left is None or left > 0:
        size = _PIECE if left is None else min(_PIECE, left)
        piece: bytes = file.read(size)  # type: ignore[attr-defined]
        if not piece:
            return
        left = None if left is None else left - len(piece)
        yield piece


def send(request: Outgoing, body: Iterable[bytes]) -> Incoming:
    """Raises `NotSent` or `NoAnswer`."""
    transport = httpx.HTTPTransport(verify=_tls(request.url), limits=_LIMITS)
    answer = None
    try:
        with _named(request):
            answer = transport.handle_request(_made(request, _Body(body)))
    finally:
        if answer is None:
            transport.close()
    return Incoming(answer, transport)


async def send_async(request: Outgoing, body: AsyncIterator[bytes]) -> AsyncIncoming:
    """The same for asyncio."""
    transport = httpx.AsyncHTTPTransport(verify=_tls(request.url), limits=_LIMITS)
    answer = None
    try:
        with _named(request):
            answer = await transport.handle_async_request(_made(request, _AsyncBody(body)))
    finally:
        if answer is None:
            await transport.aclose()
    return AsyncIncoming(answer, transport)


@contextmanager
def _named(request: Outgoing) -> Iterator[None]:
    try:
        yield
    except _NEVER_SENT as error:
        raise NotSent(f"{request.url}: {error or type(error).__name__}") from error
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise NoAnswer(f"{request.url}: {error or type(error).__name__}") from error


class _Body(httpx.SyncByteStream):
    def __init__(self, body: Iterable[bytes]) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)


class _AsyncBody(httpx.AsyncByteStream):
    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body


def _made(request: Outgoing, stream: httpx.SyncByteStream | httpx.AsyncByteStream) -> httpx.Request:
    url = httpx.URL(request.url)
    headers = list(request.headers)
    if not any(name == b"host" for name, _ in headers):
        headers.insert(0, (b"host", url.netloc))
    if request.length is None:
        headers.append((b"transfer-encoding", b"chunked"))
    elif request.length or request.method not in ("GET", "HEAD", "OPTIONS"):
        headers.append((b"content-length", str(request.length).encode()))
    return httpx.Request(
        request.method,
        url.copy_with(raw_path=request.target),
        headers=headers,
        stream=stream,
        extensions=bounded(request.seconds),
    )


def _tls(url: str) -> ssl.SSLContext | bool:
    """Without https, no certificates are loaded: that takes longer than all the rest."""
    return _context() if url.startswith("https") else False


@lru_cache(maxsize=1)
def _context() -> ssl.SSLContext:
    return httpx.create_ssl_context()
