#!/usr/bin/env python3
"""Makes the models of the daemon's configuration of what the daemon itself says about it.

    litefs-py config schema | uv run tools/settings.py

A test runs the same on the daemon at hand, and compares.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / (
    "litefs-py/src/litefs_py/adapters/config/models.py"
)
HEAD = '''"""The daemon's configuration. Made of `litefs-py config schema` by tools/settings.py; do not edit."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """An unknown key is an error, as it is to the daemon."""

    model_config = ConfigDict(extra="forbid", validate_default=True)
'''


def sections(name: str, schema: dict[str, Any]) -> list[str]:
    """The classes of a section: those within it first."""
    classes: list[str] = []
    fields: list[str] = []
    for key, value in schema["properties"].items():
        inner = f"{'' if name == 'Config' else name}{key.capitalize()}"
        if value.get("type") == "object":
            classes += sections(inner, value)
            kind, default = inner, f"default_factory={inner}"
        elif value.get("type") == "array" and value["items"].get("type") != "object":
            kind = f"list[{kind_of(value['items'])}]"
            default = (
                f"default_factory=lambda: {value['default']!r}"
                if value.get("default")
                else ("default_factory=list" if "default" in value else "")
            )
        elif value.get("type") == "array":
            inner = inner.removesuffix("s")
            classes += sections(inner, value["items"])
            kind, default = f"list[{inner}]", ""
        else:
            kind = kind_of(value)
            default = f"default={value['default']!r}" if "default" in value else ""
        if key in schema.get("required", []):
            default = ""
        about = " ".join(value.get("description", "").split())
        parts = [part for part in (default, f"description={about!r}") if part]
        fields.append(f"    {key}: {kind} = Field({', '.join(parts)})")
    about = " ".join(schema.get("description", name).split())
    doc = textwrap.fill(f'"""{about}"""', 96, initial_indent="    ", subsequent_indent="    ")
    return [*classes, f"\n\nclass {name}(Section):\n{doc}\n\n" + "\n".join(fields)]


def kind_of(value: dict[str, Any]) -> str:
    """The type of one setting."""
    if "oneOf" in value or "enum" in value:
        words = value.get("enum") or [choice["const"] for choice in value["oneOf"]]
        return f"Literal[{', '.join(map(repr, words))}]"
    kinds = value["type"] if isinstance(value["type"], list) else [value["type"]]
    names = {
        "string": "str",
        "boolean": "bool",
        "integer": "int",
        "null": "None",
        "number": "float",
    }
    kind = " | ".join(names[k] for k in kinds)
    limits = [f"pattern={value['pattern']!r}"] if "pattern" in value else []
    limits += [f"ge={value['minimum']}"] if "minimum" in value else []
    return f"Annotated[{kind}, Field({', '.join(limits)})]" if limits else kind


def models(schema: dict[str, Any]) -> str:
    """The whole module, formatted."""
    text = HEAD + "".join(sections("Config", schema)) + "\n"
    ruff = Path(sys.executable).with_name("ruff")
    return subprocess.run(
        [ruff, "format", "--stdin-filename", TARGET, "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


if __name__ == "__main__":
    TARGET.write_text(models(json.load(sys.stdin)))
    print(f"wrote {TARGET}")
