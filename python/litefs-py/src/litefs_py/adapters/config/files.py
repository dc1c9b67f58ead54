"""Reads, checks and writes the daemon's configuration."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from litefs_py.adapters.binary import find_program
from litefs_py.adapters.config.models import Config
from litefs_py.domain.errors import SettingsError
from litefs_py.domain.spelling import unknown

DEFAULT_FILE = "/etc/litefs-py/config.yml"


def parse(data: Any) -> Config:
    """A configuration from what YAML, or a program, made; raises `SettingsError` with a line a problem."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        problems = [_told(problem) for problem in error.errors()]
        raise SettingsError("\n".join(problems)) from error


def load(path: str | Path = DEFAULT_FILE) -> Config:
    """A configuration file."""
    try:
        return parse(yaml.safe_load(Path(path).read_text()))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: {error}") from error
    except SettingsError as error:
        raise SettingsError(
            "\n".join(f"{path}: {line}" for line in str(error).split("\n"))
        ) from error


def render(config: Config) -> str:
    """The file's text: what differs from the defaults."""
    return yaml.safe_dump(config.model_dump(exclude_defaults=True), sort_keys=False)


def save(config: Config, path: str | Path) -> None:
    """Writes the file, whole or not at all."""
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(render(config))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def check(config: Config, program: str | Path | None = None) -> None:
    """Lets the daemon's own program look at it: it knows more than types."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yml"
        save(config, path)
        done = subprocess.run(
            [program or find_program(), "config", "check", path],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )
    if done.returncode:
        lines = (done.stderr or done.stdout).replace(f"{path}: ", "").strip()
        raise SettingsError(lines.removeprefix("litefs-py: "))


def _told(problem: Any) -> str:
    place = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        return unknown(".".join(place), _siblings(place))
    return f"{'.'.join(place) or 'the file'}: {problem['msg']}"


def _siblings(place: list[str]) -> list[str]:
    """The keys that there are beside an unknown one, with their path."""
    model: Any = Config
    for part in place[:-1]:
        if part.isdigit():
            continue
        kind = model.model_fields[part].annotation
        model = next((k for k in (kind, *get_args(kind)) if _is_model(k)), model)
    before = ".".join(place[:-1])
    return [f"{before}.{key}" if before else key for key in model.model_fields]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
