"""`manage.py migrate`, safe against a second one on another node at the same time.

All of it runs under a lock of the whole cluster: the write lock of a database of its own on the mount. It needs no
clean-up: who dies lets go of it. Whoever comes second waits, then sees what the first did, and finds nothing to do.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from litefs_py import connect
from litefs_py.domain.sqlite_codes import Code, code_of

from litefs_django import conf

LOCK_DATABASE = "litefs-django-migrate.db"


class Command(migrate.Command):
    """Django's, one at a time."""

    def add_arguments(self, parser: CommandParser) -> None:
        """How long to wait for another one."""
        super().add_arguments(parser)
        parser.add_argument(
            "--lock-timeout",
            type=float,
            default=300.0,
            help="Seconds to wait for a migration that runs on another node.",
        )

    def handle(self, *args: Any, **options: Any) -> Any:
        """As Django's, under the lock."""
        timeout = options.pop("lock_timeout", 300.0)
        if options["database"] not in conf.database_names():
            return super().handle(*args, **options)
        with self._alone(timeout, options["verbosity"]):
            return super().handle(*args, **options)

    @contextmanager
    def _alone(self, timeout: float, verbosity: int) -> Iterator[None]:
        mount = conf.mount()
        if mount.is_replica():
            raise CommandError(f"migrate has to run on the primary, {mount.primary()}")
        connection = connect(mount.file(LOCK_DATABASE), mount=mount, busy_timeout=1.0)
        try:
            self._wait(connection, timeout, verbosity)
            # What the one before did is committed; it has to be seen here before anything is looked up.
            mount.barrier(30)
            yield
        finally:
            connection.rollback()
            connection.close()

    def _wait(self, connection: Any, timeout: float, verbosity: int) -> None:
        end, told = time.monotonic() + timeout, False
        while True:
            try:
                # A database is there for other nodes when something was committed to it.
                if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                    connection.execute("CREATE TABLE IF NOT EXISTS held(by)")
                connection.begin()
                return
            except sqlite3.OperationalError as error:
                if code_of(error) is not Code.BUSY:
                    raise
                if time.monotonic() > end:
                    raise CommandError(
                        f"another migrate runs on a node of the cluster, for more than {timeout:g} s"
                    ) from error
            if not told and verbosity > 0:
                self.stdout.write("Another migrate runs on a node of the cluster: waiting for it.")
                told = True
