"""The client that waits."""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx

from litefs_py.adapters.http import calls, wire
from litefs_py.domain.errors import QuorumLost, Unavailable, WaitTimeout
from litefs_py.domain.position import Position, Token
from litefs_py.domain.status import Checked, Database, Health, Status, Switchover
from litefs_py.usecases.endpoints import Answer, Call, Endpoints, Reach, Unreached
from litefs_py.usecases.waiting import wait_plan

T = TypeVar("T")

DEFAULT_ENDPOINT = "http://127.0.0.1:8008"


class Client:
    """Asks nodes, the first of the endpoints above all: that is *this node*, the others stand in for it.

    `timeout`: seconds for an answer, all endpoints together. May be used by several threads; a forked child
    makes connections of its own.
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
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._transports: dict[int, httpx.HTTPTransport] = {}

    # This node

    def health(self, check: str = "readiness", *, lag: str | None = None) -> Health:
        """A health check of this node: `primary`, `replica` (with `lag`), `readiness`, …"""
        return self.ask(calls.health(check, lag))

    def databases(self) -> list[Database]:
        """The databases, as this node has applied them."""
        return self.ask(calls.databases())

    def node_status(self) -> Status:
        """This node; `NodeDown` when it does not answer, whoever else would."""
        return self.ask(calls.status(Reach.THIS_NODE))

    def barrier(self, timeout: float = 10.0) -> int:
        """Waits until this node shows all that was committed, anywhere, before now."""
        try:
            return self.ask(calls.barrier(timeout))
        except Unavailable as error:
            status = self.node_status()
            if not status.can_write:
                raise QuorumLost(f"barrier on {status.name}: {error.message}") from error
            raise WaitTimeout(f"barrier on {status.name}: {error.message}") from error

    def position(self, database: str) -> Position | None:
        """Where this node is with a database; none where it has none."""
        found = [d.position for d in self.databases() if d.name == database]
        return found[0] if found else None

    def token(self, *names: str) -> Token:
        """How far this node is: with all databases, or with those named."""
        return Token(
            {d.name: d.position.txid for d in self.databases() if not names or d.name in names}
        )

    def wait(self, token: Mapping[str, int], timeout: float = 10.0) -> None:
        """Waits until this node shows what the token tells of, or raises `WaitTimeout`."""
        plan = wait_plan(token, timeout, time.monotonic)
        look = next(plan)
        while True:
            time.sleep(look[1])
            positions = {d.name: d.position for d in self.databases()}
            try:
                look = plan.send(positions)
            except StopIteration:
                return

    # The cluster

    def status(self) -> Status:
        """The cluster, as the first node that answers sees it."""
        return self.ask(calls.status())

    def switchover(self, to: str | None = None, timeout: float = 10.0) -> Switchover:
        """Hands the leadership over; nothing fails. Needs the token, or the Unix socket."""
        try:
            return self.ask(calls.switchover(to, timeout))
        except Unavailable as error:
            raise QuorumLost(f"switchover: {error.message}") from error

    def check(self, database: str, timeout: float = 10.0) -> Checked:
        """Reads a database byte by byte on every node. Needs the token, or the Unix socket."""
        return self.ask(calls.check(database, timeout))

    def history(self) -> list[dict[str, Any]]:
        """Who led when, and why that changed; the newest last."""
        return self.ask(calls.history())

    # The ways there

    def ask(self, call: Call[T]) -> T:
        """Any call of `litefs_py.adapters.http.calls`."""
        plan = self._plan.plan(call.reach, self._timeout + call.patience, time.monotonic)
        turn = next(plan)
        while True:
            try:
                turn = plan.send(self._send(call, turn))
            except StopIteration as over:
                return call.read(over.value)

    def _send(self, call: Call[Any], turn: Any) -> Answer | Unreached:
        endpoint = self._endpoints[turn.endpoint]
        if refused := wire.nobody_there(endpoint):
            return refused
        request = wire.request(call, endpoint, self._token, turn)
        try:
            response = self._transport(turn.endpoint).handle_request(request)
            try:
                return wire.answer(response, response.read())
            finally:
                response.close()
        except (httpx.TransportError, OSError) as error:
            return wire.unreached(error, endpoint)

    def _transport(self, number: int) -> httpx.HTTPTransport:
        with self._lock:
            if self._process != os.getpid():
                # They are the parent's; to close them here would not hurt it, to use them would.
                self._transports, self._process = {}, os.getpid()
            if number not in self._transports:
                self._transports[number] = wire.transport(self._endpoints[number], self._tls)
            return self._transports[number]

    def close(self) -> None:
        """Closes its connections; the next question opens others."""
        with self._lock:
            transports, self._transports = self._transports, {}
        for transport in transports.values():
            transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
