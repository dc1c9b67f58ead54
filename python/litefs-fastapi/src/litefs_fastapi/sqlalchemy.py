"""SQLAlchemy 2 and SQLModel on a mount: engines, sync and async, with the settings that production needs.

SQLAlchemy begins a transaction for whatever is asked, so how it begins matters here: IMMEDIATE takes the write lock of
the whole cluster, on the latest state; DEFERRED takes none, and fails when it reads, then writes, and another one was
first. IMMEDIATE it is, but for requests by GET, HEAD and OPTIONS under our middleware; either can be asked for:

    with engine.connect().execution_options(litefs_begin="DEFERRED") as connection: …

Where only the primary writes (`engine: litefs`), transactions on a replica begin DEFERRED and read-only: a write fails
at the statement with `NotPrimaryError`.

Exceptions of litefs_py are raised as they are, in place of `sqlalchemy.exc.OperationalError`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Any

from litefs_py import LitefsError, NodeDown
from litefs_py.adapters.connection import into_wal
from litefs_py.adapters.mount import Mount
from litefs_py.domain.sqlite_codes import changes_rows, is_read
from litefs_py.usecases import writes
from sqlalchemy import Engine, event, exc
from sqlalchemy import create_engine as plain_engine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.ext.asyncio import create_async_engine as plain_async_engine

from litefs_fastapi.mode import only_reads

# Connections of a parent process: to close one in a child could remove files that the parent uses.
_inherited: list[Any] = []
_CATCH_UP = 2.0


def create_engine(
    mount: Mount,
    name: str,
    *,
    busy_timeout: float = 5.0,
    synchronous: str = "NORMAL",
    query_only: bool = True,
    **options: Any,
) -> Engine:
    """An engine for a database on the mount."""
    arguments = {"timeout": busy_timeout, **options.pop("connect_args", {})}
    engine = plain_engine(f"sqlite:///{mount.file(name)}", connect_args=arguments, **options)
    return instrument(engine, mount, name, synchronous, query_only)


def create_async_engine(
    mount: Mount,
    name: str,
    *,
    busy_timeout: float = 5.0,
    synchronous: str = "NORMAL",
    query_only: bool = True,
    **options: Any,
) -> AsyncEngine:
    """The same by aiosqlite, which has to be installed."""
    arguments = {"timeout": busy_timeout, **options.pop("connect_args", {})}
    url = f"sqlite+aiosqlite:///{mount.file(name)}"
    engine = plain_async_engine(url, connect_args=arguments, **options)
    instrument(engine.sync_engine, mount, name, synchronous, query_only)
    return engine


def instrument(
    engine: Engine, mount: Mount, name: str, synchronous: str = "NORMAL", query_only: bool = True
) -> Engine:
    """Adds to an engine of your own what those above have. Of an async one: `engine.sync_engine`."""
    hooks = _Hooks(mount, name, synchronous, query_only)
    event.listen(engine, "do_connect", hooks.before_connect)
    event.listen(engine, "connect", hooks.connect)
    event.listen(engine, "checkout", hooks.checkout)
    event.listen(engine, "begin", hooks.begin)
    event.listen(engine, "before_cursor_execute", hooks.before_execute)
    event.listen(engine, "after_cursor_execute", hooks.after_execute)
    event.listen(engine, "commit", hooks.before_commit)
    event.listen(engine, "handle_error", hooks.failed)
    return engine


class _Hooks:
    """Of one engine."""

    def __init__(self, mount: Mount, name: str, synchronous: str, query_only: bool) -> None:
        self.mount, self.name, self.synchronous = mount, name, synchronous
        self.query_only = query_only
        self.device = 0

    def before_connect(self, dialect: Any, record: Any, arguments: Any, options: Any) -> None:
        device = self.mount.require()
        self.mount.require_database(self.name)
        record.info["litefs"] = (device, os.getpid())

    def connect(self, connection: Any, record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        # To turn a database to WAL is a write.
        if not self.mount.is_replica():
            into_wal(cursor.execute)
        cursor.execute(f"PRAGMA synchronous = {self.synchronous}")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()
        device = record.info["litefs"][0]
        before, self.device = self.device, device
        if before not in (0, device) and self.mount.enabled:
            # A daemon that has just started may show less than it did before.
            try:
                self.mount.barrier(_CATCH_UP)
            except LitefsError:
                # Without a majority it has to do.
                return

    def checkout(self, connection: Any, record: Any, proxy: Any) -> None:
        device, process = record.info.get("litefs", (0, os.getpid()))
        if process != os.getpid():
            _inherited.append(connection)
            record.dbapi_connection = proxy.dbapi_connection = None
            raise exc.DisconnectionError("a connection of the parent process")
        if self.mount.enabled and device and self.mount.stale(device):
            raise exc.InvalidatePoolError("the daemon was restarted")
        if record.info.get("litefs_replica") and not self.mount.is_replica():
            # A file that was opened on a replica may be open for reading alone.
            record.info["litefs_replica"] = False
            raise exc.DisconnectionError("opened while this node was a replica")

    def begin(self, connection: Any) -> None:
        connection.info["litefs_began"] = time.time()
        asked = connection.get_execution_options().get("litefs_begin")
        mode = asked or ("DEFERRED" if only_reads() else "IMMEDIATE")
        if mode not in ("DEFERRED", "IMMEDIATE", "EXCLUSIVE"):
            raise ValueError(f"litefs_begin: there is no {mode!r}")
        if self._follow_role(connection) and not asked:
            # The write lock of a replica is good for nothing, and stops replication while it is held.
            mode = "DEFERRED"
        connection.exec_driver_sql(f"BEGIN {mode}")

    def _follow_role(self, connection: Any) -> bool:
        """On a replica a write is to fail at the statement, and not at COMMIT."""
        if not self.query_only or not self.mount.has_one_writer():
            return False
        info = connection.info
        replica, before = self.mount.is_replica(), info.get("litefs_replica", False)
        if replica != before:
            connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if replica else 'OFF'}")
            info["litefs_replica"] = replica
        return replica

    def before_execute(
        self,
        connection: Any,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        many: bool,
    ) -> None:
        connection.info["litefs_began"] = time.time()
        connection.info["litefs_committing"] = False

    def after_execute(
        self,
        connection: Any,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        many: bool,
    ) -> None:
        if changes_rows(statement) or not is_read(statement):
            writes.wrote(self.name)

    def before_commit(self, connection: Any) -> None:
        connection.info["litefs_began"] = time.time()
        connection.info["litefs_committing"] = True

    def failed(self, context: Any) -> None:
        error = context.original_exception
        if isinstance(error, LitefsError):
            context.is_disconnect = isinstance(error, NodeDown)
            raise error
        if not isinstance(error, sqlite3.OperationalError):
            return
        info = context.connection.info if context.connection is not None else {}
        device = info.get("litefs", (self.device, 0))[0]
        began = info.get("litefs_began", time.time())
        committing = bool(info.get("litefs_committing")) and context.statement is None
        replica = bool(info.get("litefs_replica"))
        better = self.mount.explain(error, self.name, device, began, committing, replica)
        if better is not None:
            context.is_disconnect = isinstance(better, NodeDown)
            raise better from error
