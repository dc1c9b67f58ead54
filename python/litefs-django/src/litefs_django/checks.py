"""System checks, under a tag of their own: `manage.py check --tag litefs`.

| id | |
|---|---|
| litefs.E001 | a wrong setting |
| litefs.E002 | a database that is not on the mount |
| litefs.E003 | options that contradict the engine |
| litefs.W001 | a busy timeout below the time of a failover |
| litefs.W002 | the middleware is missing, or not the first |
| litefs.W003 | transactions that begin DEFERRED |
| litefs.W004 | the node does not answer (with --deploy) |
| litefs.W005 | the node is not ready (with --deploy) |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from litefs_py import LitefsError

from litefs_django import conf

ENGINE = "litefs_django.db.backends.litefs"
MIDDLEWARE = "litefs_django.middleware.LitefsMiddleware"
# A leader's machine is replaced within a second; other writers may be in front.
LEAST_BUSY_TIMEOUT = 2.0


def check_settings(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """LITEFS itself."""
    try:
        conf.litefs()
    except ImproperlyConfigured as error:
        hint = "docs/python-settings.md lists them all."
        lines = str(error).removeprefix("LITEFS: ").split("\n")
        return [Error(f"LITEFS: {line}", hint=hint, id="litefs.E001") for line in lines]
    return []


def check_databases(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """DATABASES, as far as they use the engine."""
    if check_settings():
        return []
    found: list[CheckMessage] = []
    for alias, database in settings.DATABASES.items():
        if database.get("ENGINE") == ENGINE:
            found += _check_database(alias, database)
    return found


def _check_database(alias: str, database: dict[str, Any]) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    options, name = database.get("OPTIONS", {}), str(database.get("NAME", ""))
    where = f"DATABASES[{alias!r}]"
    path = Path(name)
    # DEV mounts in its own folder, which is not looked for here: that would start it.
    elsewhere = path.parent not in (Path("."), conf.litefs().mount)
    if conf.litefs().enabled and elsewhere and ":memory:" not in name and "mode=memory" not in name:
        hint = f'Give the name alone, "{path.name}": the mount is added.'
        found.append(Error(f"{where}: {name} is not on the mount", hint=hint, id="litefs.E002"))
    init = str(options.get("init_command", "")).lower().replace(" ", "")
    for pragma in ("journal_mode=", "locking_mode=exclusive"):
        if pragma in init and "journal_mode=wal" not in init:
            hint = (
                "Leave it out: the engine sets WAL, and the node refuses what it cannot replicate."
            )
            message = f"{where}: init_command sets {pragma.split('=')[0]}"
            found.append(Error(message, hint=hint, id="litefs.E003"))
    timeout = options.get("timeout", conf.litefs().busy_timeout)
    if timeout < LEAST_BUSY_TIMEOUT:
        message = f"{where}: a busy timeout of {timeout} s is below the time of a failover"
        hint = f"{LEAST_BUSY_TIMEOUT:g} s and more: meanwhile SQLite waits instead of failing."
        found.append(Warning(message, hint=hint, id="litefs.W001"))
    if str(options.get("transaction_mode") or "IMMEDIATE").upper() == "DEFERRED":
        message = f"{where}: transactions begin DEFERRED"
        hint = "One that reads and then writes fails when another one was first. Leave it out."
        found.append(Warning(message, hint=hint, id="litefs.W003"))
    return found


def check_middleware(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """MIDDLEWARE."""
    if check_settings() or not conf.litefs().enabled:
        return []
    engines = {database.get("ENGINE") for database in settings.DATABASES.values()}
    listed = list(settings.MIDDLEWARE)
    if ENGINE not in engines or (listed and listed[0] == MIDDLEWARE):
        return []
    what = "is not the first of MIDDLEWARE" if MIDDLEWARE in listed else "is not in MIDDLEWARE"
    hint = (
        "Put it first: it sees what others write last, and answers 503 while a node cannot serve."
    )
    return [Warning(f"{MIDDLEWARE} {what}", hint=hint, id="litefs.W002")]


def check_node(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """The node itself; only with `--deploy`, for it takes a request."""
    if check_settings() or not conf.litefs().enabled:
        return []
    try:
        conf.mount().require()
        health = conf.mount().client.health("readiness")
    except LitefsError as error:
        hint = (
            "`litefs-py doctor` says what this machine lacks; LITEFS['API'] and ['MOUNT'] name it."
        )
        return [Warning(f"the node does not answer: {error}", hint=hint, id="litefs.W004")]
    if health.ok:
        return []
    message, hint = f"the node is not ready: {health.reason}", "`litefs-py status` says more."
    return [Warning(message, hint=hint, id="litefs.W005")]
