"""`manage.py litefs_status`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from litefs_py import LitefsError

from litefs_django import conf


class Command(BaseCommand):
    """This node, the cluster as it sees it, and the databases of this project."""

    help = "Shows this node, the cluster as it sees it, and this project's databases."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """--json."""
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit code 1 when the node is down."""
        if not conf.litefs().enabled:
            self.stdout.write("LITEFS['ENABLED'] is False: plain SQLite, no node.")
            return
        try:
            client = conf.mount().client
            status, databases = client.node_status(), client.databases()
        except LitefsError as error:
            raise CommandError(str(error)) from error
        here = {name: alias for alias, name in conf.database_names().items()}
        if options["json"]:
            body = {
                "node": dataclasses.asdict(status),
                "databases": [{"name": d.name, "position": str(d.position)} for d in databases],
            }
            self.stdout.write(json.dumps(body))
            return
        majority = "a majority answers" if status.quorum.ok else "NO MAJORITY"
        self.stdout.write(
            f"{status.name} of {status.cluster}: {status.role}, leader {status.leader or 'none'}, "
            f"term {status.term}, {majority}"
        )
        for member in status.members:
            up = "up" if member.reachable else "DOWN"
            self.stdout.write(f"  {member.name:<12} {member.role:<8} {up:<5} {member.address}")
        for database in databases:
            alias = here.get(database.name, "")
            self.stdout.write(f"  {database.name:<20} {database.position}  {alias}")
        for reason in status.not_ready:
            self.stdout.write(f"  not ready: {reason}")
