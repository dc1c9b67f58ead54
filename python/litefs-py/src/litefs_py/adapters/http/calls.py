"""What can be asked of a node. Each function describes one request and how to read its answer."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import quote

from litefs_py.adapters.http import decode
from litefs_py.domain.status import Checked, Database, Health, Imported, Status, Switchover
from litefs_py.usecases.endpoints import Call, Reach

HEALTH_CHECKS = ("primary", "replica", "read-only", "health", "liveness", "readiness")


def status(reach: Reach = Reach.ANY_NODE) -> Call[Status]:
    """GET /cluster."""
    return Call("GET", "/cluster", decode.status, reach)


def databases() -> Call[list[Database]]:
    """GET /databases, of the first endpoint."""
    return Call("GET", "/databases", decode.databases, Reach.THIS_NODE)


def health(check: str, lag: str | None) -> Call[Health]:
    """One of the health checks, of the first endpoint."""
    if check not in HEALTH_CHECKS:
        raise ValueError(
            f"there is no health check {check!r}; there are {', '.join(HEALTH_CHECKS)}"
        )
    query = {} if lag is None else {"lag": lag}
    return Call("GET", f"/{check}", decode.health, Reach.THIS_NODE, query)


def barrier(seconds: float) -> Call[int]:
    """POST /barrier, on the first endpoint."""
    query = {"timeout": duration(seconds)}
    return Call("POST", "/barrier", decode.barrier, Reach.THIS_NODE, query, patience=seconds)


def switchover(to: str | None, seconds: float) -> Call[Switchover]:
    """POST /switchover."""
    query = {"timeout": duration(seconds)}
    body = {} if to is None else {"to": to}
    reach = Reach.ANY_NODE_ONCE
    return Call("POST", "/switchover", decode.switchover, reach, query, body, patience=seconds)


def check(database: str, seconds: float) -> Call[Checked]:
    """POST /check."""
    query, body = {"timeout": duration(seconds)}, {"database": database}
    return Call("POST", "/check", decode.check, Reach.ANY_NODE, query, body, patience=seconds)


def history() -> Call[list[dict[str, Any]]]:
    """GET /history."""
    return Call("GET", "/history", decode.anything)


def config() -> Call[dict[str, Any]]:
    """GET /config, of the first endpoint."""
    return Call("GET", "/config", decode.anything, Reach.THIS_NODE)


def begin_import(name: str, size: int, sha256: str) -> Call[dict[str, Any]]:
    """POST /databases/NAME/import."""
    body = {"bytes": size, "sha256": sha256}
    path = f"/databases/{quote(name, safe='')}/import"
    return Call("POST", path, decode.anything, Reach.THIS_NODE, body=body)


def import_piece(name: str, upload: str, offset: int, piece: bytes) -> Call[dict[str, Any]]:
    """PUT /databases/NAME/import/UPLOAD."""
    path = f"/databases/{quote(name, safe='')}/import/{quote(upload, safe='')}"
    query = {"offset": str(offset)}
    return Call("PUT", path, decode.anything, Reach.THIS_NODE, query, content=piece, patience=20)


def finish_import(name: str, upload: str, seconds: float) -> Call[dict[str, Any]]:
    """POST /databases/NAME/import/UPLOAD: 200 it is imported, 202 it is still at work."""
    path = f"/databases/{quote(name, safe='')}/import/{quote(upload, safe='')}"
    query = {"timeout": duration(seconds)}
    return Call("POST", path, decode.anything, Reach.THIS_NODE, query, patience=seconds)


def imported(body: dict[str, Any]) -> Imported:
    """The answer of an import that is over."""
    return Imported(**{**body, "position": decode._position(body["position"])})


def duration(seconds: float) -> str:
    """As nodes read it; they refuse more than a minute."""
    return f"{max(1, math.ceil(min(seconds, 60.0) * 1000))}ms"
