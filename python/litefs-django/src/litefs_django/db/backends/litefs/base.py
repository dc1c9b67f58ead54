"""Django's SQLite engine with what a node's mount asks for.

- A relative NAME is a database on the mount (or, without a node, in the folder of the settings).
- WAL, a busy timeout above the time of a failover, foreign keys, and BEGIN IMMEDIATE: what ends "database is
  locked" in the middle of a transaction.
- A connection is opened anew when the daemon was restarted, or the process forked, as soon as no transaction is
  under way.
- Where only the primary writes (`engine: litefs`), transactions on a replica begin DEFERRED and read-only.
- Errors say what happened; see `litefs_django.errors`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db.backends.sqlite3 import base
from django.db.utils import DatabaseErrorWrapper
from django.utils.functional import cached_property
from litefs_py import LitefsError
from litefs_py.adapters.connection import prepare

from litefs_django import conf
from litefs_django.db.backends.litefs.connection import Connection, Cursor
from litefs_django.db.backends.litefs.creation import DatabaseCreation
from litefs_django.db.transaction import mode_of_this_context
from litefs_django.errors import of_django, raised

# Connections of a parent process: to close one in a child could remove files that the parent uses.
_inherited: list[sqlite3.Connection] = []
# How long a connection that is opened anew waits, to show what it had shown before.
_CATCH_UP = 2.0


class DatabaseWrapper(base.DatabaseWrapper):
    """One alias of DATABASES."""

    creation_class = DatabaseCreation
    _device_before = 0

    # What it is called

    @property
    def litefs_name(self) -> str | None:
        """Its name on the mount; none of a database that is not there (in memory, elsewhere, no node)."""
        name = str(self.settings_dict["NAME"])
        if not conf.litefs().enabled or self.is_in_memory_db():
            return None
        path = Path(name)
        if path.parent == Path("."):
            return name
        return path.name if path.parent == self._folder() else None

    def file_of(self, name: Any) -> Any:
        """The file behind a NAME."""
        text = str(name)
        if not text or self.creation.is_in_memory_db(name) or text.startswith("file:"):
            return name
        return text if os.path.isabs(text) else str(self._folder() / text)

    def _folder(self) -> Path:
        settings = conf.litefs()
        return conf.mount().path if settings.enabled else settings.folder

    # Opening and closing

    def get_connection_params(self) -> Any:
        """As Django's, with the file on the mount."""
        params = super().get_connection_params()
        # Django before 5.1 leaves these to sqlite3, which does not know them.
        mode = params.pop("transaction_mode", None) or getattr(self, "transaction_mode", None)
        self.transaction_mode = (mode or "IMMEDIATE").upper()
        init = params.pop("init_command", "")
        if init or not hasattr(self, "init_commands"):
            self.init_commands = init.split(";")
        params["database"] = self.file_of(params["database"])
        params.setdefault("timeout", conf.litefs().busy_timeout)
        params["factory"] = Connection
        return params

    def get_new_connection(self, conn_params: Any) -> Any:
        """As Django's, if there is something mounted."""
        name = self.litefs_name
        device = 0 if name is None else conf.mount().require()
        if name is not None:
            conf.mount().require_database(name)
        if name is None and not conf.litefs().enabled:
            conf.litefs().folder.mkdir(parents=True, exist_ok=True)
        began = time.time()
        raw, replica = None, False
        try:
            follows = (
                name is not None and conf.litefs().query_only and conf.mount().has_one_writer()
            )
            replica = name is not None and conf.mount().is_replica()
            raw = super().get_new_connection(conn_params)
            raw.opened(name or str(self.settings_dict["NAME"]), device)
            if not self.is_in_memory_db():
                isolation, raw.isolation_level = raw.isolation_level, None
                # To turn a database to WAL is a write.
                prepare(raw, synchronous=conf.litefs().synchronous, wal=not replica)
                raw.isolation_level = isolation
            if follows:
                raw.follow_role(replica)
                raw.look = conf.mount().is_replica
            if self._device_before not in (0, device):
                with suppress(LitefsError):
                    conf.mount().barrier(_CATCH_UP)
        except BaseException as error:
            if raw is not None:
                raw.close()
            if name is not None and isinstance(error, sqlite3.Error):
                better = conf.mount().explain(error, name, device, began, False, replica)
                if better is not None:
                    raise better from error
            raise
        self._device_before = device
        return raw

    def _cursor(self, name: Any = None) -> Any:
        raw = self.connection
        if raw is not None and not self.in_atomic_block and not self._is_of_now(raw):
            self.close()
        return super()._cursor(name)

    def _is_of_now(self, raw: Connection) -> bool:
        if raw.process != os.getpid():
            return False
        try:
            # Of a connection that somebody closed it cannot be asked.
            _ = raw.total_changes
        except sqlite3.ProgrammingError:
            return False
        if raw.replica and not conf.mount().is_replica():
            # A file that was opened on a replica may be open for reading alone.
            return False
        return not raw.device or not conf.mount().stale(raw.device)

    def is_usable(self) -> bool:
        """Whether it may be used by the next request."""
        return self.connection is not None and self._is_of_now(self.connection)

    def _close(self) -> None:
        raw = self.connection
        if raw is not None and raw.process != os.getpid():
            _inherited.append(raw)
        elif raw is not None:
            # Of a mount that is gone it may fail, and is closed all the same.
            with suppress(sqlite3.Error):
                raw.close()

    # Statements

    def create_cursor(self, name: Any = None) -> Any:
        """Ours."""
        return self.connection.cursor(factory=Cursor)

    def _start_transaction_under_autocommit(self) -> None:
        mode = mode_of_this_context() or self.transaction_mode
        raw = self.connection
        if raw is not None and raw.look is not None and raw.look():
            # The write lock of a replica is good for nothing, and stops replication while it is held.
            mode = "DEFERRED"
        self.cursor().execute(f"BEGIN {mode}")

    def _commit(self) -> Any:
        if self.connection is not None:
            self.connection.before_commit()
        return super()._commit()

    @cached_property
    def wrap_database_errors(self) -> Any:
        """Django's exceptions for SQLite's, and ours where the node knows better."""
        return ErrorWrapper(self)


class ErrorWrapper(DatabaseErrorWrapper):
    """Asks the node what an error means, before Django gives it its own name."""

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        """Raises another exception in its place."""
        better = self._better(exc_value) if exc_value is not None else None
        if better is not None:
            self.wrapper.errors_occurred = True
            raise better.with_traceback(traceback) from exc_value
        super().__exit__(exc_type, exc_value, traceback)

    def _better(self, error: BaseException) -> LitefsError | None:
        if isinstance(error, LitefsError):
            return raised(of_django(error))
        raw = self.wrapper.connection
        if not isinstance(error, sqlite3.OperationalError) or raw is None or not raw.device:
            return None
        found = conf.mount().explain(
            error, raw.name, raw.device, raw.began, raw.committing, raw.replica
        )
        return raised(of_django(found)) if found is not None else None
