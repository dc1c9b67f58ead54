"""`manage.py litefs_import db.sqlite3`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from litefs_py import Conflict, LitefsError, NotAllowed
from litefs_py.adapters.upload import import_file

from litefs_django import conf


class Command(BaseCommand):
    """An existing file into the cluster."""

    help = (
        "Brings an existing SQLite file into the cluster as one of DATABASES. It is checked, and is there whole "
        "or not at all; one that broke off goes on where it was."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """The file, and the alias."""
        parser.add_argument("file", type=Path)
        parser.add_argument("--database", default="default", help="the alias that it becomes")

    def handle(self, *args: Any, **options: Any) -> None:
        """Says what there is then."""
        names = conf.database_names()
        if options["database"] not in names:
            raise CommandError(f"{options['database']} is no alias of a database on the mount")
        name = names[options["database"]]

        def progress(done: int, size: int) -> None:
            if options["verbosity"] > 1:
                self.stdout.write(f"{done} of {size} bytes")

        try:
            made = import_file(conf.mount().client, options["file"], name, progress)
        except NotAllowed as error:
            hint = "give LITEFS['TOKEN_FILE'], or the Unix socket as LITEFS['API']"
            raise CommandError(f"{error}; {hint}") from error
        except Conflict as error:
            raise CommandError(
                f"there is a database {name} already; nothing was changed"
            ) from error
        except LitefsError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{made.database}: {made.pages} pages, position {made.position}")
