"""`manage.py litefs_check`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from litefs_py import LitefsError

from litefs_django import conf


class Command(BaseCommand):
    """Compares this project's databases on all nodes, byte by byte."""

    help = "Reads this project's databases byte by byte on every node, while they are used."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Which, and for how long."""
        parser.add_argument("--database", help="an alias; else all")
        parser.add_argument("--timeout", type=float, default=60.0, help="seconds for each")

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit code 1 when a copy is not sound."""
        names = conf.database_names()
        if options["database"]:
            if options["database"] not in names:
                raise CommandError(f"{options['database']} is no alias of a database on the mount")
            names = {options["database"]: names[options["database"]]}
        bad = 0
        for alias, name in names.items():
            try:
                checked = conf.mount().client.check(name, options["timeout"])
            except LitefsError as error:
                raise CommandError(f"{name}: {error}") from error
            self.stdout.write(f"{alias} ({name}): {'sound' if checked.sound else 'NOT SOUND'}")
            for node, copy in checked.copies.items():
                self.stdout.write(f"  {node:<12} {copy.state} {copy.position or copy.why or ''}")
            bad += not checked.sound
        if bad:
            raise CommandError(f"{bad} of {len(names)} databases are not sound on every node")
