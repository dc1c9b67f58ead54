"""Test databases on the mount, where a database is no file to be copied."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Any

from django.db.backends.sqlite3 import creation


class DatabaseCreation(creation.DatabaseCreation):
    """Without a TEST NAME they are in memory, as Django's. With one they are on the mount."""

    def _get_test_db_name(self) -> Any:
        return self.connection.file_of(super()._get_test_db_name())

    def _clone_test_db(self, suffix: Any, verbosity: int, keepdb: bool = False) -> None:
        """For each of the parallel runner's processes: by SQLite's backup, since the mount takes no copies."""
        source = self.connection.settings_dict["NAME"]
        target = self.get_test_db_clone_settings(suffix)["NAME"]
        if self.is_in_memory_db(source):
            super()._clone_test_db(suffix, verbosity, keepdb)
            return
        if os.access(target, os.F_OK):
            if keepdb:
                return
            os.remove(target)
        with closing(sqlite3.connect(source)) as before, closing(sqlite3.connect(target)) as after:
            before.backup(after)
