"""`settings.LITEFS`, and the mount that it names. Read once, and again when a test overrides it."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from litefs_py import SettingsError
from litefs_py.adapters.config.app import AppSettings
from litefs_py.adapters.mount import Mount

_lock = threading.Lock()


@lru_cache(maxsize=1)
def litefs() -> AppSettings:
    """Raises `ImproperlyConfigured` with what is wrong."""
    given = dict(getattr(settings, "LITEFS", {}))
    base = getattr(settings, "BASE_DIR", None)
    if base is not None:
        # Relative to the project and not to wherever it is started.
        given["FOLDER"] = Path(base) / given.get("FOLDER", ".litefs")
    try:
        return AppSettings.parse(given, str.upper)
    except SettingsError as error:
        raise ImproperlyConfigured(f"LITEFS: {error}") from error


def mount() -> Mount:
    """The mount; with `DEV` its node is started."""
    with _lock:
        return _mount()


@lru_cache(maxsize=1)
def _mount() -> Mount:
    return litefs().open_mount()


def database_names() -> dict[str, str]:
    """By alias, the names on the mount of the databases that are there."""
    from django.db import connections

    found = {}
    for alias in connections:
        name = getattr(connections[alias], "litefs_name", None)
        if name is not None:
            found[alias] = name
    return found


def keys() -> list[bytes]:
    """What cookies are signed with, and what else they may have been signed with."""
    fallbacks = getattr(settings, "SECRET_KEY_FALLBACKS", [])
    first = litefs().secret or settings.SECRET_KEY
    return [str(key).encode() for key in [first, *fallbacks]]


def _changed(*, setting: str, **_: Any) -> None:
    if setting in ("LITEFS", "BASE_DIR"):
        litefs.cache_clear()
        _mount.cache_clear()


setting_changed.connect(_changed)
