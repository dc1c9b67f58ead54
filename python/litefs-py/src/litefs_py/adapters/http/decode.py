"""Answers of nodes into the domain's types. Fields that a newer node adds are passed over."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from litefs_py.domain.errors import ApiError, of_code
from litefs_py.domain.position import Position
from litefs_py.domain.status import (
    Checked,
    Database,
    Health,
    Imported,
    Status,
    Switchover,
)
from litefs_py.usecases.endpoints import Answer

T = TypeVar("T")


def checked(answer: Answer, *good: int) -> Any:
    """The JSON of an answer with one of the good codes; raises what the node says otherwise."""
    if answer.code not in good:
        raise of_code(answer.code, _said(answer))
    return _json(answer)


def _said(answer: Answer) -> str:
    try:
        body = json.loads(answer.body)
    except ValueError:
        return answer.body.decode(errors="replace")[:200].strip() or "no reason was given"
    error = body.get("error") if isinstance(body, dict) else None
    return str(error or body)


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except ValueError as error:
        raise ApiError(answer.code, f"not JSON: {answer.body[:60]!r}") from error


def _reader(kind: Any, *good: int) -> Callable[[Answer], Any]:
    adapter = TypeAdapter(kind)

    def read(answer: Answer) -> Any:
        body = _with_positions(checked(answer, *good))
        try:
            return adapter.validate_python(body)
        except ValidationError as error:
            raise ApiError(answer.code, f"an answer of another kind: {error}") from error

    return read


def _with_positions(value: Any) -> Any:
    """Positions are written as text, wherever they stand."""
    if isinstance(value, list):
        return [_with_positions(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _position(item) if key == "position" else _with_positions(item)
        for key, item in value.items()
    }


def _position(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return Position.parse(value)
    except ValueError as error:
        raise ApiError(200, str(error)) from error


status: Callable[[Answer], Status] = _reader(Status, 200)
databases: Callable[[Answer], list[Database]] = _reader(list[Database], 200)
check: Callable[[Answer], Checked] = _reader(Checked, 200)
imported: Callable[[Answer], Imported] = _reader(Imported, 200)


def health(answer: Answer) -> Health:
    """Both codes are answers."""
    body = checked(answer, 200, 503)
    if not isinstance(body, dict) or "state" not in body:
        raise of_code(answer.code, _said(answer))
    read = _reader(Health, 200, 503)
    return read(  # type: ignore[no-any-return]
        Answer(answer.code, json.dumps({**body, "ok": answer.code == 200}).encode())
    )


def switchover(answer: Answer) -> Switchover:
    """Who leads now, or who was asked to."""
    body = checked(answer, 200, 202)
    return Switchover(body["state"], body.get("leader") or body["to"])


def barrier(answer: Answer) -> int:
    """The index of the entry up to which all is visible."""
    return int(checked(answer, 200)["index"])


def anything(answer: Answer) -> Any:
    """JSON as it is."""
    return checked(answer, 200, 202)
