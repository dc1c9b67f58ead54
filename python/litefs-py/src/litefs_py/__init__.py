"""SQLite on more than one machine, from Python.

    with litefs_py.connect("/litefs/app.db") as connection:
        connection.execute("INSERT INTO notes(text) VALUES (?)", ["kept by a majority"])

`connect` and `run_in_transaction` for SQL, `Client` and `AsyncClient` for the nodes' HTTP API, `Mount` for
positions and waits, `litefs_py.node.Node` to run the daemon, `litefs_py.settings` for its configuration,
`litefs_py.testing` for pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litefs_py.domain.errors import (
    ApiError,
    BinaryNotFound,
    CommitOutcomeUnknown,
    Conflict,
    LitefsError,
    NodeDown,
    NotAllowed,
    NotFound,
    NotPrimaryError,
    QuorumLost,
    Refused,
    SettingsError,
    Unavailable,
    WaitTimeout,
)
from litefs_py.domain.position import Position, Token
from litefs_py.usecases.transactions import run_in_transaction

if TYPE_CHECKING:
    from litefs_py.adapters.binary import find_program
    from litefs_py.adapters.connection import Connection, connect
    from litefs_py.adapters.http.async_client import AsyncClient
    from litefs_py.adapters.http.client import Client
    from litefs_py.adapters.mount import Mount

__version__ = "0.1.0"

__all__ = [
    "ApiError",
    "AsyncClient",
    "BinaryNotFound",
    "Client",
    "CommitOutcomeUnknown",
    "Conflict",
    "Connection",
    "LitefsError",
    "Mount",
    "NodeDown",
    "NotAllowed",
    "NotFound",
    "NotPrimaryError",
    "Position",
    "QuorumLost",
    "Refused",
    "SettingsError",
    "Token",
    "Unavailable",
    "WaitTimeout",
    "connect",
    "find_program",
    "run_in_transaction",
]

# What needs httpx and pydantic is loaded when it is asked for: they take most of the import's time.
_LATER = {
    "AsyncClient": "litefs_py.adapters.http.async_client",
    "Client": "litefs_py.adapters.http.client",
    "Connection": "litefs_py.adapters.connection",
    "Mount": "litefs_py.adapters.mount",
    "connect": "litefs_py.adapters.connection",
    "find_program": "litefs_py.adapters.binary",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATER[name]), name)
