"""The mount of this machine's node, and the node's API beside it.

All an adapter of a framework needs: files, positions, waits, and what an error means. With `enabled=False`
it is a plain folder of plain SQLite files: nothing is waited for, no error has another meaning.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from litefs_py.adapters.http.client import DEFAULT_ENDPOINT, Client
from litefs_py.domain.errors import (
    ApiError,
    LitefsError,
    NodeDown,
    NotPrimaryError,
    WaitTimeout,
)
from litefs_py.domain.position import Position, Token
from litefs_py.domain.status import Status
from litefs_py.usecases.diagnosis import Failure, diagnose, needs_status
from litefs_py.usecases.waiting import wait_plan

DEFAULT_MOUNT = "/litefs"
# An error is explained within this time; the statement has waited already.
_EXPLAINED_IN = 1.5
# Seconds in which a dead daemon is not noticed before a statement is sent to it.
_ASKED_EVERY = 0.01


class Mount:
    """A folder of databases. `client`: of the node that serves it, the first of the endpoints."""

    def __init__(
        self,
        path: str | os.PathLike[str] = DEFAULT_MOUNT,
        api: str | Iterable[str] = DEFAULT_ENDPOINT,
        *,
        token: str | None = None,
        token_file: str | Path | None = None,
        enabled: bool = True,
    ) -> None:
        self.path = Path(path)
        self.enabled = enabled
        self._asked = 0.0
        # Which life of the mount was looked at, and whether LiteFS is behind it.
        self._looked: tuple[int, bool] = (0, False)
        self.api = [api] if isinstance(api, str) else list(api)
        self.client = Client(self.api, timeout=_EXPLAINED_IN, token=token, token_file=token_file)

    def __repr__(self) -> str:
        return f"Mount({str(self.path)!r})"

    def file(self, name: str) -> Path:
        """A database's file: `app.db`, or its whole path on the mount."""
        return self.path / name

    def device(self) -> int:
        """Another number after each restart of the daemon, for as long as a connection of before is open."""
        try:
            return os.stat(self.path).st_dev
        except OSError as error:
            raise NodeDown(f"{self.path}: {error.strerror}") from error

    def require(self) -> int:
        """The device, if something is mounted. Else SQLite would make a database beneath the mount."""
        device = self.device()
        try:
            os.statvfs(self.path)
        except OSError as error:
            raise NodeDown(f"{self.path}: {error.strerror}") from error
        if self.enabled and os.stat(self.path.parent).st_dev == device:
            raise NodeDown(f"{self.path}: nothing is mounted; is the node running?")
        return device

    # Who may write

    def has_one_writer(self) -> bool:
        """Whether LiteFS is behind it, where only the primary may write. Looked at once in a mount's life."""
        if not self.enabled:
            return False
        try:
            device = os.stat(self.path).st_dev
            if device != self._looked[0]:
                # LiteFS writes its lag with a sign, the other engine without.
                self._looked = (device, _read(self.path / ".lag")[:1] in ("+", "-"))
        except OSError:
            # A mount that is gone is still what it was.
            pass
        return self._looked[1]

    def is_replica(self) -> bool:
        """Whether LiteFS follows another node at this moment, so that nothing can be written here."""
        return self.has_one_writer() and os.path.exists(self.path / ".primary")

    def primary(self) -> str | None:
        """The name of the node that LiteFS follows; none on the primary, and where nobody is known to be it."""
        if not self.has_one_writer():
            return None
        try:
            return _read(self.path / ".primary").strip() or None
        except (OSError, ValueError):
            return None

    def require_database(self, name: str) -> None:
        """LiteFS lets a replica make an empty database, which stays there alone, and in the way."""
        if self.is_replica() and not os.path.exists(self.file(name)):
            primary = self.primary()
            message = f"{name} is not there: only the primary, {primary}, makes databases"
            raise NotPrimaryError(message, primary)

    def is_primary(self) -> bool:
        """Whether LiteFS is primary here. That it follows nobody is not enough: it may be cut off."""
        if not self.has_one_writer() or self.is_replica():
            return False
        try:
            return int(_read(self.path / ".lag")) == 0
        except (OSError, ValueError):
            return False

    # How far it is

    def position(self, name: str) -> Position | None:
        """Where this node is with a database; none where it has none."""
        try:
            return Position.parse(_read(f"{self.file(name)}-pos"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise NodeDown(f"{name}-pos: {error}") from error

    def token(self, *names: str) -> Token:
        """How far this node is with these databases: what was written here is in it."""
        if not self.enabled:
            return Token()
        found = {name: self.position(name) for name in names}
        return Token({name: p.txid for name, p in found.items() if p is not None})

    def wait(self, token: Mapping[str, int], timeout: float = 10.0) -> None:
        """Waits until a new reader here sees what the token tells of, or raises `WaitTimeout`."""
        if not self.enabled or not token:
            return
        plan = wait_plan(token, timeout, time.monotonic)
        names, pause = next(plan)
        while True:
            if pause:
                time.sleep(pause)
            try:
                names, pause = plan.send(self._positions(names))
            except StopIteration:
                return

    async def wait_async(self, token: Mapping[str, int], timeout: float = 10.0) -> None:
        """The same for asyncio; the mount is read in a thread, for a daemon that hangs."""
        if not self.enabled or not token:
            return
        plan = wait_plan(token, timeout, time.monotonic)
        names, pause = next(plan)
        while True:
            if pause:
                await asyncio.sleep(pause)
            positions = await asyncio.to_thread(self._positions, names)
            try:
                names, pause = plan.send(positions)
            except StopIteration:
                return

    def _positions(self, names: list[str]) -> dict[str, Position]:
        found = {name: self.position(name) for name in names}
        return {name: position for name, position in found.items() if position is not None}

    def barrier(self, timeout: float = 10.0) -> None:
        """Waits until a new reader here sees all that was committed, anywhere, before now."""
        if self.enabled:
            self.client.barrier(timeout)

    # What an error means

    def status(self) -> Status | None:
        """What the node says of itself; none when it does not answer."""
        try:
            return self.client.node_status()
        except (NodeDown, WaitTimeout, ApiError):
            return None

    def stale(self, device: int) -> bool:
        """Whether a connection of that device is of a mount that is gone.

        The kernel keeps what a folder is for a while, also when its daemon is dead; the size of the file system
        it has to ask for. That takes a way to the daemon, so it is done now and then.
        """
        try:
            now = time.monotonic()
            if now - self._asked > _ASKED_EVERY:
                os.statvfs(self.path)
                self._asked = now
            return self.device() != device
        except (NodeDown, OSError):
            return True

    def explain(
        self,
        error: sqlite3.Error,
        database: str,
        device: int,
        began: float,
        committing: bool,
        replica: bool = False,
    ) -> LitefsError | None:
        """The exception to raise in place of SQLite's, if there is a better one.

        `replica`: `is_replica()` when the transaction began.
        """
        if not self.enabled:
            return None
        failure = Failure(error, database, committing, began)
        if self.has_one_writer():
            failure = replace(failure, one_writer=True, replica=replica, primary=self.primary())
        if not needs_status(error, failure.one_writer):
            return diagnose(failure, None, False)
        return diagnose(failure, self.status(), self.stale(device))


def _read(path: str | os.PathLike[str]) -> str:
    """A small file of the mount, by half as many questions to the daemon as a file object asks."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, 4096).decode()
    finally:
        os.close(file)
