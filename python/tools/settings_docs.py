#!/usr/bin/env python3
"""Makes docs/python-settings.md of the models. A test holds both together.

uv run tools/settings_docs.py
"""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any

from litefs_py.adapters.config.app import AppSettings
from pydantic.fields import FieldInfo

TARGET = Path(__file__).resolve().parents[2] / "docs/python-settings.md"
HEAD = """# Settings of applications

<!-- Made by python/tools/settings_docs.py of litefs_py/adapters/config/app.py. Do not edit. -->

The same for every framework. Django has them as `LITEFS = {"MOUNT": "/litefs"}` in its settings; `Litefs(mount="/litefs")`
takes them as arguments, and `Litefs.from_environment()` reads `LITEFS_MOUNT` and so on, several values with commas
between. A wrong name is an error that names the nearest known one; in Django a system check says so (`litefs.E001`).

The daemon's own settings are in [configuration.md](configuration.md).

| setting | Django | variable | type | default | meaning |
|---|---|---|---|---|---|
"""


def kind(annotation: Any) -> str:
    """For people."""
    names = {str: "text", bool: "true or false", float: "seconds", int: "number", Path: "path"}
    if annotation in names:
        return names[annotation]
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(f"`{word}`" for word in arguments)
    if typing.get_origin(annotation) is list:
        return f"list of {kind(arguments[0])}"
    if typing.get_origin(annotation) is dict:
        return f"{kind(arguments[1])} by name"
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " or ".join(kind(a) for a in arguments if a is not type(None))
    if typing.get_origin(annotation) is typing.Annotated:
        return kind(arguments[0])
    raise TypeError(f"no word for {annotation}")


def row(name: str, field: FieldInfo) -> str:
    """Of one setting."""
    default = "none" if field.default in (None, []) else f"`{field.default}`"
    if isinstance(field.default, list) and field.default:
        default = ", ".join(f"`{word}`" for word in field.default)
    words = {"cookie_max_age": "seconds", "retry_after": "seconds"}
    what = words.get(name) or kind(field.annotation)
    most = next((limit.le for limit in field.metadata if hasattr(limit, "le")), None)
    if most is not None:
        what += f", at most {most:g}"
    return (
        f"| `{name}` | `{name.upper()}` | `LITEFS_{name.upper()}` | {what} | {default} "
        f"| {field.description} |\n"
    )


def document() -> str:
    """The whole page."""
    return HEAD + "".join(row(name, field) for name, field in AppSettings.model_fields.items())


if __name__ == "__main__":
    TARGET.write_text(document())
    print(f"wrote {TARGET}")
