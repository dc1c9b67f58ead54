"""The connection and cursor of `sqlite3` beneath Django's: they know what a statement was about when it fails."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from django.db.backends.sqlite3.base import SQLiteCursorWrapper
from litefs_py.domain.sqlite_codes import changes_rows, is_read, may_write
from litefs_py.usecases import writes


class Connection(sqlite3.Connection):
    """One to a database on the mount. `device`: which life of the mount it is of."""

    name: str
    device: int
    process: int
    began = 0.0
    committing = False
    # Asked for the node's role, where that matters, and whether it was a replica when the last transaction began.
    look: Callable[[], bool] | None = None
    replica = False
    _changes = 0

    def opened(self, name: str, device: int) -> None:
        """Told once."""
        self.name, self.device, self.process = name, device, os.getpid()

    def before(self, statement: str) -> None:
        """A statement is about to run."""
        if self.look is not None and not self.in_transaction and may_write(statement):
            self.follow_role(self.look())
        self.began = time.time()
        self.committing = not self.in_transaction and not is_read(statement)

    def follow_role(self, replica: bool) -> None:
        """On a replica a write is to fail at the statement, and not at COMMIT."""
        if replica != self.replica:
            super().execute(f"PRAGMA query_only = {'ON' if replica else 'OFF'}")
            self.replica = replica

    def before_commit(self) -> None:
        """COMMIT is about to run."""
        self.began, self.committing = time.time(), True

    def after(self, statement: str) -> None:
        """A statement has run: who watches is told of a write."""
        changes = self.total_changes
        if changes != self._changes or changes_rows(statement):
            self._changes = changes
            writes.wrote(self.name)


class Cursor(SQLiteCursorWrapper):
    """Tells its connection."""

    connection: Connection

    def execute(self, query: str, params: Any = None) -> Any:
        """As Django's."""
        self.connection.before(query)
        result = super().execute(query, params)
        self.connection.after(query)
        return result

    def executemany(self, query: str, param_list: Any) -> Any:
        """As Django's."""
        self.connection.before(query)
        result = super().executemany(query, param_list)
        self.connection.after(query)
        return result
