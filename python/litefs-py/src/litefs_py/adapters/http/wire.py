"""One request to one endpoint, by httpx's transports: no cookie jar, no redirect, no proxy of the environment.

An endpoint is `http://host:port`, `https://…`, or `unix:/run/litefs-py/api.sock`.
"""

from __future__ import annotations

import json
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from litefs_py.domain.errors import SettingsError
from litefs_py.usecases.endpoints import Answer, Call, Try, Unreached

# A database may be exported by other means; what is asked here is small.
LONGEST_ANSWER = 64 << 20
_CONNECT = 2.0
_LIMITS = httpx.Limits(max_connections=20, max_keepalive_connections=5, keepalive_expiry=5.0)


@dataclass(frozen=True)
class Endpoint:
    """Where a node's API is."""

    url: str
    socket: str | None

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Raises `SettingsError` for what is no endpoint."""
        if text.startswith("unix:"):
            path = text[len("unix:") :]
            if not path.startswith("/"):
                raise SettingsError(f"endpoint {text!r}: the socket's path must be absolute")
            return cls("http://localhost", "/" + path.lstrip("/"))
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(
                f"endpoint {text!r}: expected http://HOST:PORT or unix:/path/of/api.sock"
            )
        return cls(text.rstrip("/"), None)

    def __str__(self) -> str:
        return f"unix:{self.socket}" if self.socket else self.url


def token_of(token: str | None, token_file: str | Path | None) -> str | None:
    """The bearer token, which may stand in a file."""
    if token_file is None:
        return token
    try:
        return Path(token_file).read_text().strip()
    except OSError as error:
        raise SettingsError(f"token_file {token_file}: {error.strerror}") from error


def bounded(seconds: float) -> dict[str, dict[str, float]]:
    """The extensions of a request of httpx that takes no longer; to connect, less."""
    limits = dict.fromkeys(("read", "write", "pool"), seconds)
    return {"timeout": {"connect": min(_CONNECT, seconds), **limits}}


def request(call: Call[object], endpoint: Endpoint, token: str | None, turn: Try) -> httpx.Request:
    """The request as it goes out."""
    url = httpx.URL(endpoint.url + call.path, params=call.query or None)
    headers = {"accept": "application/json", "user-agent": "litefs-py-python"}
    content = call.content
    if call.body is not None:
        content = json.dumps(call.body).encode()
        headers["content-type"] = "application/json"
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    return httpx.Request(
        call.method, url, headers=headers, content=content, extensions=bounded(turn.seconds)
    )


def nobody_there(endpoint: Endpoint) -> Unreached | None:
    """Whether a Unix socket refuses. httpx would find out as well, but leaves its own socket to be collected."""
    if endpoint.socket is None:
        return None
    try:
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.settimeout(_CONNECT)
            knocking.connect(endpoint.socket)
    except OSError as error:
        return Unreached(f"{endpoint}: {error}", sent=False)
    return None


def answer(response: httpx.Response, body: bytes) -> Answer:
    """What the plan is told."""
    return Answer(response.status_code, body, response.headers.get("content-type", ""))


def unreached(error: Exception, endpoint: Endpoint) -> Unreached:
    """What the plan is told of an error: a connection that was never made has sent nothing."""
    never = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
    why = f"{endpoint}: {error or type(error).__name__}"
    return Unreached(why, not isinstance(error, never), isinstance(error, httpx.TimeoutException))


def transport(endpoint: Endpoint, tls: ssl.SSLContext | bool) -> httpx.HTTPTransport:
    """For a client that waits."""
    return httpx.HTTPTransport(verify=_tls(endpoint, tls), limits=_LIMITS, uds=endpoint.socket)


def async_transport(endpoint: Endpoint, tls: ssl.SSLContext | bool) -> httpx.AsyncHTTPTransport:
    """For a client that awaits."""
    return httpx.AsyncHTTPTransport(verify=_tls(endpoint, tls), limits=_LIMITS, uds=endpoint.socket)


def _tls(endpoint: Endpoint, tls: ssl.SSLContext | bool) -> ssl.SSLContext | bool:
    """Without https, no certificates are loaded: that takes longer than all the rest."""
    return tls if endpoint.url.startswith("https") else False
