"""`manage.py litefs_switchover [NODE]`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from litefs_py import LitefsError, NotAllowed

from litefs_django import conf


class Command(BaseCommand):
    """Hands the leadership over."""

    help = "Hands the leadership over to another node; nothing fails meanwhile."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """The node."""
        parser.add_argument("node", nargs="?", help="who shall lead; else who is furthest")
        parser.add_argument("--timeout", type=float, default=10.0, help="seconds")

    def handle(self, *args: Any, **options: Any) -> None:
        """Says who leads."""
        try:
            done = conf.mount().client.switchover(options["node"], options["timeout"])
        except NotAllowed as error:
            hint = "give LITEFS['TOKEN_FILE'], or the Unix socket as LITEFS['API']"
            raise CommandError(f"{error}; {hint}") from error
        except LitefsError as error:
            raise CommandError(str(error)) from error
        said = (
            "leads now" if done.state == "done" else "was asked to lead, and had not begun in time"
        )
        self.stdout.write(f"{done.leader} {said}")
