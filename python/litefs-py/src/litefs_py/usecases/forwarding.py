"""Requests that write, on a node that must not: which they are, where they go, and what of them goes there.

Where only the primary writes (`engine: litefs`), the middleware of a replica sends them on to the application on the
primary's machine, or answers at once that it cannot. A request goes on once at most: roles may change meanwhile, and
two nodes that each take the other for the primary would send it to and fro.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import quote

Headers = list[tuple[bytes, bytes]]

# The node that sent a request on.
HOP = b"litefs-forwarded-by"
# Who may write, in answers that say that this node must not.
PRIMARY = "Litefs-Primary"

# A name from the mount becomes part of a URL.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
# RFC 9110, 7.6.1, and what older programs send. `Expect` was answered by this node's own server.
_OF_ONE_CONNECTION = {
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
    b"trailer", b"trailers", b"transfer-encoding", b"upgrade", b"http2-settings", b"expect",
}  # fmt: skip
# This node's own server says these, once.
_OF_A_SERVER = {b"date", b"server"}
# What stays as it is in the target of a request: all of RFC 3986, with what is escaped already.
_TARGET = "/?:@!$&'()*+,;=-._~%[]"


class Verdict(Enum):
    """What the middleware does with a request."""

    SERVE = "the application here answers"
    FORWARD = "it goes to the primary"
    REFUSE = "this node must not write, and there is nowhere to send it"


@dataclass(frozen=True)
class Rules:
    """Of the settings. `to`: a URL with `{name}` in it, or one for each node's name."""

    to: str | Mapping[str, str] | None = None
    refuse: bool = False
    safe_methods: frozenset[str] = frozenset({"GET", "HEAD", "OPTIONS"})
    write_paths: tuple[str, ...] = ()
    local_paths: tuple[str, ...] = ()

    def is_write(self, method: str, path: str) -> bool:
        """Whether a request may be expected to write."""
        return method not in self.safe_methods or _beneath(path, self.write_paths)

    def concern(self, method: str, path: str) -> bool:
        """Whether a replica does not simply serve such a request."""
        on = self.to is not None or self.refuse
        return on and self.is_write(method, path) and not _beneath(path, self.local_paths)

    def may_run_twice(self, method: str, path: str) -> bool:
        """Whether one that turned out to write may be sent on after it failed here, where nothing was written."""
        safe = method in self.safe_methods and not _beneath(path, self.local_paths)
        return safe and self.to is not None

    def url(self, primary: str | None) -> str | None:
        """Where the primary's application is; none where that is not known."""
        if primary is None or self.to is None:
            return None
        if isinstance(self.to, str):
            return self.to.replace("{name}", primary) if _NAME.fullmatch(primary) else None
        return self.to.get(primary)

    def verdict(self, primary: str | None, hopped: bool) -> Verdict:
        """For a request that is of concern, on a node that follows this primary; none if it follows nobody."""
        if primary is None:
            return Verdict.SERVE
        if self.url(primary) is not None and not hopped:
            return Verdict.FORWARD
        return Verdict.REFUSE


def _beneath(path: str, places: Iterable[str]) -> bool:
    return any(f"{path}/".startswith(place.rstrip("/") + "/") for place in places)


@dataclass(frozen=True)
class Hop:
    """Who sends a request on, and how it came here."""

    node: str
    client: str | None
    scheme: str


def outward(headers: Iterable[tuple[bytes, bytes]], hop: Hop) -> Headers:
    """The headers of a request as they go on: `Host` stays, what belongs to one connection does not, nor does the
    body's length, which the sender knows."""
    found = _lower(headers)
    kept = _of_all_hops(found, {b"content-length", b"x-forwarded-for", HOP})
    before = [value for name, value in found if name == b"x-forwarded-for"]
    if hop.client:
        before.append(hop.client.encode("latin-1", "replace"))
    if before:
        kept.append((b"x-forwarded-for", b", ".join(before)))
    names = {name for name, _ in kept}
    # A proxy before this node knows better how the client came.
    if b"x-forwarded-proto" not in names:
        kept.append((b"x-forwarded-proto", hop.scheme.encode("latin-1", "replace")))
    host = next((value for name, value in kept if name == b"host"), None)
    if b"x-forwarded-host" not in names and host is not None:
        kept.append((b"x-forwarded-host", host))
    kept.append((HOP, hop.node.encode("latin-1", "replace")))
    return kept


def inward(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers of an answer as they go to the client, several of one name too."""
    return _of_all_hops(_lower(headers), _OF_A_SERVER)


def length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Of a request's body, if it is told."""
    told = [value for name, value in _lower(headers) if name == b"content-length"]
    return int(told[0]) if told and told[0].isdigit() else None


def is_chunked(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether its body's length is not told."""
    return any(name == b"transfer-encoding" for name, _ in _lower(headers))


def has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request by a safe method has one."""
    return is_chunked(headers) or bool(length(headers))


def has_hopped(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether another node sent it on already."""
    return any(name == HOP for name, _ in _lower(headers))


def target(path: bytes, query: bytes) -> bytes:
    """A request's target, with nothing in it that could end its line."""
    whole = path + (b"?" + query if query else b"")
    return quote(whole, safe=_TARGET).encode()


def of_environ(environ: Mapping[str, object]) -> Headers:
    """A request's headers from those of CGI, as WSGI and Django have them."""
    found: Headers = []
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            name = key[5:]
        elif key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
            name = key
        else:
            continue
        text = str(value).encode("latin-1", "replace")
        found.append((name.replace("_", "-").lower().encode("latin-1", "replace"), text))
    return found


def _lower(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return [(name.lower(), value) for name, value in headers]


def _of_all_hops(headers: Headers, without: set[bytes]) -> Headers:
    named = {
        word.strip().lower()
        for name, value in headers
        if name == b"connection"
        for word in value.split(b",")
    }
    dropped = _OF_ONE_CONNECTION | named | without
    return [(name, value) for name, value in headers if name not in dropped]
