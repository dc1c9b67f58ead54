"""A DB-API connection (PEP 249) with what production needs.

- WAL; a busy timeout above the time of a failover; foreign keys; BEGIN IMMEDIATE before the first write, so that
  a transaction never finds out in its middle that another one was first.
- Opened anew when the daemon was restarted, or the process forked, as soon as no transaction is under way.
- Where only the primary writes (`engine: litefs`), a write on a replica fails at the statement: `PRAGMA query_only`
  follows the node's role.
- Errors that say what happened: `NodeDown`, `QuorumLost`, `CommitOutcomeUnknown`, `NotPrimaryError`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from litefs_py.adapters.http.client import DEFAULT_ENDPOINT
from litefs_py.adapters.mount import Mount
from litefs_py.domain.errors import LitefsError
from litefs_py.domain.position import Token
from litefs_py.domain.sqlite_codes import (
    Code,
    changes_rows,
    code_of,
    first_word,
    is_read,
    may_write,
)
from litefs_py.usecases import writes
from litefs_py.usecases.transactions import run_in_transaction

T = TypeVar("T")
Parameters = Sequence[Any] | Mapping[str, Any]

# A failover takes less than a second by the defaults; this leaves room for other writers.
BUSY_TIMEOUT = 5.0

# How long a connection that is opened anew waits, to show what it had shown before.
_CATCH_UP = 2.0

# Seconds until a change to WAL is tried again.
_WAL_AGAIN = 0.01

# Connections that a parent opened. To close one in a child could remove files that the parent uses, so they are
# kept until the child ends.
_inherited: list[sqlite3.Connection] = []


def into_wal(execute: Callable[[str], object], busy_timeout: float = BUSY_TIMEOUT) -> None:
    """Changes a database to WAL, if it is not.

    Where two connections do so at once SQLite tells one of them that the database is locked, without waiting as
    long as it was told: that one had begun to read, and the other waits for it.
    """
    end = time.monotonic() + busy_timeout
    while True:
        try:
            execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if code_of(error) is not Code.BUSY or time.monotonic() > end:
                raise
            time.sleep(_WAL_AGAIN)
        else:
            return


def prepare(raw: sqlite3.Connection, *, synchronous: str = "NORMAL", wal: bool = True) -> None:
    """The settings of a new connection, in autocommit mode."""
    if wal:
        (milliseconds,) = raw.execute("PRAGMA busy_timeout").fetchone()
        into_wal(raw.execute, milliseconds / 1000)
    if synchronous.upper() not in ("OFF", "NORMAL", "FULL", "EXTRA"):
        raise ValueError(f"synchronous: there is no {synchronous!r}")
    raw.execute(f"PRAGMA synchronous = {synchronous}")
    raw.execute("PRAGMA foreign_keys = ON")


def connect(
    database: str | os.PathLike[str],
    *,
    mount: Mount | None = None,
    api: str | Iterable[str] = DEFAULT_ENDPOINT,
    enabled: bool = True,
    busy_timeout: float = BUSY_TIMEOUT,
    synchronous: str = "NORMAL",
    check_same_thread: bool = True,
    query_only: bool = True,
) -> Connection:
    """Opens a database: its whole path on the mount, or its name with `mount`.

    `enabled=False`: plain SQLite in a plain folder, with the same settings. `query_only=False`: the node's role is
    not looked at when a transaction begins; with LiteFS a write on a replica then fails as late as at COMMIT.
    """
    path = Path(database)
    if mount is None:
        mount = Mount(path.parent, api, enabled=enabled)
    return Connection(mount, path.name, busy_timeout, synchronous, check_same_thread, query_only)


class Connection:
    """Made by `connect`. Begins a transaction before the first write, as `sqlite3` does by default."""

    def __init__(
        self,
        mount: Mount,
        name: str,
        busy_timeout: float,
        synchronous: str,
        check_same_thread: bool,
        query_only: bool = True,
    ) -> None:
        self.mount, self.name = mount, name
        self._query_only = query_only
        # Whether the role matters, and whether the node was a replica when the last transaction began.
        self._follows = self._replica = False
        self._options = (busy_timeout, synchronous, check_same_thread)
        self._row_factory: Any = None
        self._raw: sqlite3.Connection | None = None
        self._device, self._process, self._changes = 0, 0, 0
        self._closed = False
        self._ready()

    # PEP 249

    def cursor(self) -> Cursor:
        """A cursor, which outlives a reopening of the connection."""
        return Cursor(self)

    def execute(self, statement: str, parameters: Parameters = ()) -> Cursor:
        """A statement on a cursor of its own."""
        return self.cursor().execute(statement, parameters)

    def executemany(self, statement: str, parameters: Iterable[Parameters]) -> Cursor:
        """A statement once for each of the parameters."""
        return self.cursor().executemany(statement, parameters)

    def commit(self) -> None:
        """COMMIT; nothing where there is no transaction."""
        if self._raw is not None:
            with self._explained(committing=True):
                self._raw.commit()

    def rollback(self) -> None:
        """ROLLBACK. Never fails: what cannot be rolled back any more is dropped with its connection."""
        if self._raw is None:
            return
        try:
            self._raw.rollback()
        except sqlite3.Error:
            self._drop()

    def close(self) -> None:
        """Rolls back what is not committed."""
        self._closed = True
        self._drop()

    # Beyond it

    def begin(self, mode: str = "IMMEDIATE") -> None:
        """BEGIN IMMEDIATE: the write lock at once, on the latest state. DEFERRED for what only reads."""
        if mode.upper() not in ("IMMEDIATE", "DEFERRED", "EXCLUSIVE"):
            raise ValueError(f"there is no BEGIN {mode!r}")
        self.execute(f"BEGIN {mode}")

    def run_in_transaction(self, work: Callable[[Connection], T], **options: Any) -> T:
        """`work(connection)` in one transaction, repeated as long as that is safe."""
        return run_in_transaction(self, work, **options)

    def token(self) -> Token:
        """What to wait for on another node, to see there what was written here."""
        return self.mount.token(self.name)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is under way."""
        return self._raw is not None and self._raw.in_transaction

    @property
    def row_factory(self) -> Any:
        """As that of `sqlite3`."""
        return self._row_factory

    @row_factory.setter
    def row_factory(self, value: Any) -> None:
        self._row_factory = value
        if self._raw is not None:
            self._raw.row_factory = value

    @property
    def raw(self) -> sqlite3.Connection:
        """The connection of `sqlite3` as of now, for what is not here: functions, backup, …"""
        return self._ready()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commits, or rolls back after an error; as `sqlite3`, it does not close."""
        if kind is not None:
            self.rollback()
            return
        try:
            self.commit()
        except BaseException:
            self.rollback()
            raise

    # Within

    def _ready(self, statement: str = "BEGIN") -> sqlite3.Connection:
        """The connection, opened anew where it has to be for this statement."""
        if self._closed:
            raise sqlite3.ProgrammingError("Cannot operate on a closed database.")
        if self._raw is not None and self._process != os.getpid():
            _inherited.append(self._raw)
            self._raw = None
        idle = self._raw is not None and not self._raw.in_transaction
        if idle and self.mount.enabled and self.mount.stale(self._device):
            self._drop()
        if idle and self._raw is not None and self._follows and may_write(statement):
            self._follow_role(self._raw)
        if self._raw is None:
            before = self._device
            self._raw = self._open()
            if before and before != self._device:
                self._catch_up()
        return self._raw

    def _follow_role(self, raw: sqlite3.Connection) -> None:
        """On a replica a write is to fail at the statement, and not at COMMIT."""
        replica = self.mount.is_replica()
        if replica and not self._replica:
            raw.execute("PRAGMA query_only = ON")
            self._replica = True
        elif not replica and self._replica:
            # Opened anew: a file that was opened on a replica may be open for reading alone.
            self._drop()

    def _catch_up(self) -> None:
        """A daemon that has just started may show less than it did before. Without a majority it has to do."""
        with suppress(LitefsError):
            self.mount.barrier(_CATCH_UP)

    def _open(self) -> sqlite3.Connection:
        busy_timeout, synchronous, check_same_thread = self._options
        device = self.mount.require()
        self.mount.require_database(self.name)
        began = time.time()
        raw = None
        self._follows = self._query_only and self.mount.has_one_writer()
        self._replica = self._follows and self.mount.is_replica()
        try:
            raw = sqlite3.connect(
                self.mount.file(self.name),
                timeout=busy_timeout,
                isolation_level="IMMEDIATE",
                check_same_thread=check_same_thread,
            )
            # To turn a database to WAL is a write.
            prepare(raw, synchronous=synchronous, wal=not self.mount.is_replica())
            if self._replica:
                raw.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            if raw is not None:
                raw.close()
            better = self.mount.explain(error, self.name, device, began, False, self._replica)
            if better is None:
                raise
            raise better from error
        raw.row_factory = self._row_factory
        self._device, self._process, self._changes = device, os.getpid(), raw.total_changes
        return raw

    def _drop(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None and self._process == os.getpid():
            with suppress(sqlite3.Error):
                raw.close()

    @contextmanager
    def _explained(self, committing: bool) -> Iterator[None]:
        began = time.time()
        try:
            yield
        except sqlite3.Error as error:
            better = self.mount.explain(
                error, self.name, self._device, began, committing, self._replica
            )
            if code_of(error) in (Code.IOERR, Code.CANTOPEN) and not self.in_transaction:
                self._drop()
            if better is None:
                raise
            raise better from error
        if self._raw is not None and self._raw.total_changes != self._changes:
            self._changes = self._raw.total_changes
            writes.wrote(self.name)


class Cursor:
    """A cursor (PEP 249)."""

    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._raw: sqlite3.Cursor | None = None

    def execute(self, statement: str, parameters: Parameters = ()) -> Cursor:
        """One statement."""
        return self._run(statement, lambda cursor: cursor.execute(statement, parameters))

    def executemany(self, statement: str, parameters: Iterable[Parameters]) -> Cursor:
        """One statement, once for each of the parameters."""
        return self._run(statement, lambda cursor: cursor.executemany(statement, parameters))

    def executescript(self, script: str) -> Cursor:
        """Several statements; commits first, as `sqlite3` does."""
        return self._run("COMMIT", lambda cursor: cursor.executescript(script))

    def _run(self, statement: str, work: Callable[[sqlite3.Cursor], object]) -> Cursor:
        raw = self.connection._ready(statement)
        self._raw = raw.cursor()
        with self.connection._explained(_commits(statement, raw.in_transaction)):
            work(self._raw)
        if changes_rows(statement):
            writes.wrote(self.connection.name)
        return self

    def fetchone(self) -> Any:
        """The next row, or none."""
        return self._raw.fetchone() if self._raw else None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """So many rows at most."""
        return self._raw.fetchmany(size or self.arraysize) if self._raw else []

    def fetchall(self) -> list[Any]:
        """All that are left."""
        return self._raw.fetchall() if self._raw else []

    def __iter__(self) -> Iterator[Any]:
        return iter(self._raw or ())

    @property
    def description(self) -> Any:
        """The columns."""
        return self._raw.description if self._raw else None

    @property
    def rowcount(self) -> int:
        """Rows that were changed; -1 of what changes none."""
        return self._raw.rowcount if self._raw else -1

    @property
    def lastrowid(self) -> int | None:
        """The row that was inserted last."""
        return self._raw.lastrowid if self._raw else None

    def setinputsizes(self, sizes: Any) -> None:
        """Of no effect, as PEP 249 allows."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Of no effect, as PEP 249 allows."""

    def close(self) -> None:
        """Its rows are dropped."""
        if self._raw is not None:
            self._raw.close()
            self._raw = None


def _commits(statement: str, in_transaction: bool) -> bool:
    """Whether this statement ends with a COMMIT: said, or because there is no transaction around it."""
    if in_transaction:
        return first_word(statement) in ("COMMIT", "END")
    # A transaction is begun before what changes rows.
    return not changes_rows(statement) and not is_read(statement)
