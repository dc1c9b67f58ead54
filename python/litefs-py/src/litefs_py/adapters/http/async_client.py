"""The client that awaits. Made of `client.py` by tools/async_client.py."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx

from litefs_py.adapters.http import calls, wire
from litefs_py.adapters.http.client import DEFAULT_ENDPOINT
from litefs_py.domain.errors import QuorumLost, Unavailable, WaitTimeout
from litefs_py.domain.position import Position, Token
from litefs_py.domain.status import Checked, Database, Health, Status, Switchover
from litefs_py.usecases.endpoints import Answer, Call, Endpoints, Reach, Unreached
from litefs_py.usecases.waiting import wait_plan

T = TypeVar("T")


class AsyncClient:
    """Asks nodes, the first of the endpoints above all: that is *this node*, the others stand in for it.

    `timeout`: seconds for an answer, all endpoints together. For one event loop at a time; a forked
    child makes connections of its own.
    """

    def __init__(
        self,
        endpoints: str | Iterable[str] = DEFAULT_ENDPOINT,
        *,
        timeout: float = 5.0,
        token: str | None = None,
        token_file: str | Path | None = None,
        tls: ssl.SSLContext | bool = True,
    ) -> None:
        names = [endpoints] if isinstance(endpoints, str) else list(endpoints)
        self._endpoints = [wire.Endpoint.parse(name) for name in names]
        if not self._endpoints:
            raise ValueError("there must be one endpoint at least")
        self._plan = Endpoints(len(self._endpoints))
        self._timeout, self._tls = timeout, tls
        self._token = wire.token_of(token, token_file)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._transports: dict[int, httpx.AsyncHTTPTransport] = {}

    # This node

    async def health(self, check: str = "readiness", *, lag: str | None = None) -> Health:
        """A health check of this node: `primary`, `replica` (with `lag`), `readiness`, …"""
        return await self.ask(calls.health(check, lag))

    async def databases(self) -> list[Database]:
        """The databases, as this node has applied them."""
        return await self.ask(calls.databases())

    async def node_status(self) -> Status:
        """This node; `NodeDown` when it does not answer, whoever else would."""
        return await self.ask(calls.status(Reach.THIS_NODE))

    async def barrier(self, timeout: float = 10.0) -> int:
        """Waits until this node shows all that was committed, anywhere, before now."""
        try:
            return await self.ask(calls.barrier(timeout))
        except Unavailable as error:
            status = await self.node_status()
            if not status.can_write:
                raise QuorumLost(f"barrier on {status.name}: {error.message}") from error
            raise WaitTimeout(f"barrier on {status.name}: {error.message}") from error

    async def position(self, database: str) -> Position | None:
        """Where this node is with a database; none where it has none."""
        found = [d.position for d in await self.databases() if d.name == database]
        return found[0] if found else None

    async def token(self, *names: str) -> Token:
        """How far this node is: with all databases, or with those named."""
        return Token(
            {
                d.name: d.position.txid
                for d in await self.databases()
                if not names or d.name in names
            }
        )

    async def wait(self, token: Mapping[str, int], timeout: float = 10.0) -> None:
        """Waits until this node shows what the token tells of, or raises `WaitTimeout`."""
        plan = wait_plan(token, timeout, time.monotonic)
        look = next(plan)
        while True:
            await asyncio.sleep(look[1])
            positions = {d.name: d.position for d in await self.databases()}
            try:
                look = plan.send(positions)
            except StopIteration:
                return

    # The cluster

    async def status(self) -> Status:
        """The cluster, as the first node that answers sees it."""
        return await self.ask(calls.status())

    async def switchover(self, to: str | None = None, timeout: float = 10.0) -> Switchover:
        """Hands the leadership over; nothing fails. Needs the token, or the Unix socket."""
        try:
            return await self.ask(calls.switchover(to, timeout))
        except Unavailable as error:
            raise QuorumLost(f"switchover: {error.message}") from error

    async def check(self, database: str, timeout: float = 10.0) -> Checked:
        """Reads a database byte by byte on every node. Needs the token, or the Unix socket."""
        return await self.ask(calls.check(database, timeout))

    async def history(self) -> list[dict[str, Any]]:
        """Who led when, and why that changed; the newest last."""
        return await self.ask(calls.history())

    # The ways there

    async def ask(self, call: Call[T]) -> T:
        """Any call of `litefs_py.adapters.http.calls`."""
        plan = self._plan.plan(call.reach, self._timeout + call.patience, time.monotonic)
        turn = next(plan)
        while True:
            try:
                turn = plan.send(await self._send(call, turn))
            except StopIteration as over:
                return call.read(over.value)

    async def _send(self, call: Call[Any], turn: Any) -> Answer | Unreached:
        endpoint = self._endpoints[turn.endpoint]
        if refused := wire.nobody_there(endpoint):
            return refused
        request = wire.request(call, endpoint, self._token, turn)
        try:
            response = await self._transport(turn.endpoint).handle_async_request(request)
            try:
                return wire.answer(response, await response.aread())
            finally:
                await response.aclose()
        except (httpx.TransportError, OSError) as error:
            return wire.unreached(error, endpoint)

    def _transport(self, number: int) -> httpx.AsyncHTTPTransport:
        loop = asyncio.get_running_loop()
        if self._loop is not loop or self._process != os.getpid():
            # Connections belong to the loop, and to the process, that made them.
            self._transports, self._loop, self._process = {}, loop, os.getpid()
        if number not in self._transports:
            self._transports[number] = wire.async_transport(self._endpoints[number], self._tls)
        return self._transports[number]

    async def close(self) -> None:
        """Closes its connections; the next question opens others."""
        transports, self._transports = self._transports, {}
        for transport in transports.values():
            await transport.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
