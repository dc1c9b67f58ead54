"""The settings of an application, the same for every framework.

Django has them in capitals, `LITEFS = {"MOUNT": "/litefs"}`; other programs as arguments, or by variables of the
environment, `LITEFS_MOUNT=/litefs`. docs/python-settings.md is made of the descriptions here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from litefs_py.adapters.http.client import DEFAULT_ENDPOINT
from litefs_py.adapters.mount import DEFAULT_MOUNT, Mount
from litefs_py.domain.cookie import MAX_AGE
from litefs_py.domain.errors import SettingsError
from litefs_py.domain.spelling import unknown
from litefs_py.usecases.forwarding import Rules

Seconds = Annotated[float, Field(gt=0, le=3600)]


class AppSettings(BaseModel):
    """An unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(
        default=True,
        description="Whether there is a node. Without one the same settings give plain SQLite in `folder`, "
        "with the same pragmas: on a laptop, in unit tests.",
    )
    dev: bool = Field(
        default=False,
        description="Starts a cluster of one node in `folder` when the first database is opened, for "
        "development. It ends with the process that started it. Needs FUSE.",
    )
    dev_engine: Literal["embedded", "litefs"] = Field(
        default="embedded",
        description="The engine of `dev`. `litefs` takes the LiteFS in the wheel, or on PATH; its node is the primary.",
    )
    mount: Path = Field(
        default=Path(DEFAULT_MOUNT), description="The mount of this machine's node."
    )
    api: str | list[str] = Field(
        default=DEFAULT_ENDPOINT,
        description="The node's HTTP API, `http://HOST:PORT` or `unix:/run/litefs-py/api.sock`; further "
        "nodes may follow, which stand in where the question is about the cluster.",
    )
    token_file: Path | None = Field(
        default=None,
        description="File of the bearer token, for what changes something over TCP (switchover, import).",
    )
    folder: Path = Field(
        default=Path(".litefs"),
        description="Where the databases are without a node, and the cluster of `dev`.",
    )
    busy_timeout: Seconds = Field(
        default=5.0,
        description="Seconds that a statement waits for the write lock, and through a failover.",
    )
    synchronous: Literal["OFF", "NORMAL", "FULL", "EXTRA"] = Field(
        default="NORMAL",
        description="SQLite's setting. On a node it means nothing: a COMMIT is durable on a majority.",
    )
    read_your_writes: bool = Field(
        default=True,
        description="Whether the middleware gives who wrote a cookie with the position, and waits on any "
        "node until that is reached.",
    )
    wait_timeout: Seconds = Field(
        default=1.0,
        description="Seconds that a request waits for the position of its cookie. Past it, it is served all "
        "the same, and a warning is logged.",
    )
    secret: str | None = Field(
        default=None,
        repr=False,
        description="What the cookie is signed with: the same on every node, and known to nobody else. Django "
        "has `SECRET_KEY` for it, and `SECRET_KEY_FALLBACKS`.",
    )
    cookie_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = Field(
        default="litefs_position", description="The cookie's name."
    )
    cookie_max_age: Annotated[int, Field(ge=1, le=MAX_AGE)] = Field(
        default=MAX_AGE, description="Seconds that a browser keeps it."
    )
    retry_after: Annotated[int, Field(ge=0, le=3600)] = Field(
        default=1,
        description="Seconds in the `Retry-After` of the 503 that the middleware answers when the node is "
        "down or there is no majority: nothing was committed, so a load balancer may try another node.",
    )
    query_only: bool = Field(
        default=True,
        description="With LiteFS as the engine: whether a transaction that begins on a replica is for reading alone, so "
        "that a write fails at the statement and not at COMMIT. It takes one look into the mount.",
    )
    forward: str | dict[str, str] | None = Field(
        default=None,
        description="With LiteFS as the engine: where the middleware of a replica sends requests that write. A URL "
        "with the primary's name, `http://{name}:8000`, or one for each name (as a variable `n1=http://…,n2=http://…`).",
    )
    forward_timeout: Seconds = Field(
        default=30.0,
        description="Seconds that the primary's application may be silent, from when the request was sent. Past "
        "it the answer is 504: it may have been done.",
    )
    refuse_writes: bool = Field(
        default=False,
        description="With LiteFS as the engine: whether the middleware of a replica answers requests that write "
        "by `not_primary_status` at once where they go nowhere, instead of letting them fail.",
    )
    not_primary_status: Literal[503, 421] = Field(
        default=503,
        description="The answer where this node must not write, with the primary's name in `Litefs-Primary`.",
    )
    safe_methods: list[str] = Field(
        default=["GET", "HEAD", "OPTIONS"],
        description="Requests by other methods write. One of these that turns out to write, too, goes on to "
        "the primary, as long as it has no body.",
    )
    write_paths: list[str] = Field(
        default=[],
        description="Paths, with all beneath them, whose requests write whatever their method. A WebSocket there is "
        "refused on a replica.",
    )
    local_paths: list[str] = Field(
        default=[],
        description="Paths, with all beneath them, whose requests are answered here whatever their method.",
    )

    @field_validator("forward")
    @classmethod
    def _are_urls(cls, value: str | dict[str, str] | None) -> str | dict[str, str] | None:
        for url in [value] if isinstance(value, str) else (value or {}).values():
            _check_url(url, isinstance(value, str))
        return value

    @field_validator("write_paths", "local_paths")
    @classmethod
    def _are_paths(cls, value: list[str]) -> list[str]:
        for path in value:
            if not path.startswith("/"):
                raise ValueError(f"{path!r}: a path begins with /")
        return value

    @field_validator("safe_methods")
    @classmethod
    def _are_methods(cls, value: list[str]) -> list[str]:
        for method in value:
            if not method.isalpha() or method != method.upper():
                raise ValueError(f"{method!r}: a method is written in capitals, as GET")
        return value

    @model_validator(mode="after")
    def _one_of_both(self) -> AppSettings:
        if self.dev and not self.enabled:
            raise ValueError("dev and enabled=False contradict each other")
        return self

    @classmethod
    def parse(cls, given: Mapping[str, Any], spell: Callable[[str], str] = str) -> AppSettings:
        """Raises `SettingsError`. `spell`: how a name is written where they come from."""
        names = {spell(name): name for name in cls.model_fields}
        strange = [name for name in given if name not in names]
        if strange:
            raise SettingsError("\n".join(unknown(str(name), names) for name in strange))
        try:
            return cls.model_validate({names[key]: value for key, value in given.items()})
        except ValidationError as error:
            lines = [
                f"{spell(str(p['loc'][0])) if p['loc'] else spell('dev')}: {p['msg']}"
                for p in error.errors()
            ]
            raise SettingsError("\n".join(lines)) from error

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> AppSettings:
        """Of `LITEFS_MOUNT`, `LITEFS_API` (several with commas between) and so on; others are not looked at."""
        given: dict[str, Any] = {}
        for name in cls.model_fields:
            if (value := environment.get(spell_variable(name))) is not None:
                given[spell_variable(name)] = _of_text(name, value)
        return cls.parse(given, spell_variable)

    @cached_property
    def rules(self) -> Rules:
        """What the middleware does with requests on a replica."""
        return Rules(
            self.forward if self.enabled else None,
            self.refuse_writes and self.enabled,
            frozenset(self.safe_methods),
            tuple(self.write_paths),
            tuple(self.local_paths),
            self.retry_after,
            self.not_primary_status,
        )

    def open_mount(self) -> Mount:
        """The mount that these settings name; with `dev` its cluster is started, if it does not run."""
        if self.dev:
            from litefs_py.adapters.dev import one_node

            return one_node(self.folder, self.dev_engine)
        if not self.enabled:
            self.folder.mkdir(parents=True, exist_ok=True)
            return Mount(self.folder.absolute(), self.api, enabled=False)
        return Mount(self.mount, self.api, token_file=self.token_file)


def spell_variable(name: str) -> str:
    """As a variable of the environment."""
    return f"LITEFS_{name.upper()}"


_LISTS = {"api", "safe_methods", "write_paths", "local_paths"}


def _of_text(name: str, value: str) -> Any:
    """A variable's value: several with commas between, `forward` with names before them."""
    if name in _LISTS:
        return value.split(",")
    if name == "forward" and "=" in value.partition("://")[0]:
        pairs = [part.partition("=") for part in value.split(",")]
        return {key.strip(): url.strip() for key, _, url in pairs}
    if name == "not_primary_status" and value.isdigit():
        return int(value)
    return value


def _check_url(url: str, named: bool) -> None:
    filled = url.replace("{name}", "n1") if named else url
    if "{" in filled or "}" in filled:
        raise ValueError(
            f"{url!r}: {{name}} is all that can stand in braces, where one URL is for all"
        )
    parts = urlsplit(filled)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r}: expected http://HOST:PORT")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        raise ValueError(f"{url!r}: the path is the request's own; expected http://HOST:PORT")
    try:
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r}: {error}") from error
