"""Requests that write, on a node that must not: which they are, where they go, and what of them goes there.

Where only the primary writes (`engine: litefs`), the middleware of a replica sends them on to the application on the
primary's machine, or answers at once that it cannot. A request goes on once at most: roles may change meanwhile, and
two nodes that each take the other for the primary would send it to and fro.

All that is decided about it is decided here. An adapter asks `concern`, and only if so who the primary is, and then
`before`; after a failure by which nothing was committed it asks `after`. What it is told it does: send on, answer, serve.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from litefs_py.domain.errors import NotPrimaryError

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


@dataclass(frozen=True)
class Answer:
    """What the middleware itself answers, in place of the application."""

    status: int
    headers: Headers
    text: bytes


@dataclass(frozen=True)
class Forward:
    """It goes to the primary's application. `body`: with its body, which nobody has read yet."""

    url: str
    body: bool = True


@dataclass(frozen=True)
class Rules:
    """Of the settings. `to`: a URL with `{name}` in it, or one for each node's name."""

    to: str | Mapping[str, str] | None = None
    refuse: bool = False
    safe_methods: frozenset[str] = frozenset({"GET", "HEAD", "OPTIONS"})
    write_paths: tuple[str, ...] = ()
    local_paths: tuple[str, ...] = ()
    retry_after: int = 1
    not_primary_status: int = 503

    # Before the application is asked

    def is_write(self, method: str, path: str) -> bool:
        """Whether a request may be expected to write."""
        return method not in self.safe_methods or _beneath(path, self.write_paths)

    def concern(self, method: str, path: str) -> bool:
        """Whether a replica does not simply serve such a request: then `before` says what becomes of it."""
        on = self.to is not None or self.refuse
        return on and self.is_write(method, path) and not _beneath(path, self.local_paths)

    def before(
        self, headers: Iterable[tuple[bytes, bytes]], primary: str | None
    ) -> Forward | Answer | None:
        """For a request that is of concern, on a node that follows this primary; none if it follows nobody. The
        application here serves it where nothing is returned."""
        if primary is None:
            return None
        url = self._url(primary)
        if url is not None and not has_hopped(headers):
            return Forward(url)
        return self.not_here(primary)

    def of_socket(self, path: str, primary: str | None) -> Answer | None:
        """For a WebSocket, which begins with a GET and cannot be sent on: one that writes is refused at once."""
        if primary is None or not self.concern("GET", path):
            return None
        return self.not_here(primary)

    # After it failed

    def after(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[bytes, bytes]],
        error: BaseException,
    ) -> Forward | Answer:
        """For a request that ended with an error by which nothing was committed (`SAFE_TO_REPEAT`): what only seemed to
        read can be done on the primary, once, and without a body, which was read here."""
        if isinstance(error, NotPrimaryError):
            headers = list(headers)
            url = self._url(error.primary)
            once = not has_hopped(headers) and not has_body(headers)
            if url is not None and once and self._may_run_twice(method, path):
                return Forward(url, body=False)
        return self.failed(error)

    def failed(self, error: BaseException) -> Answer:
        """Of such an error, where it goes nowhere."""
        if isinstance(error, NotPrimaryError):
            return self.not_here(error.primary)
        return self.unavailable()

    # What is answered

    def unavailable(self) -> Answer:
        """503: nothing was committed, another node may be asked the same."""
        return _answer(503, b"The database is not available at this moment.\n", self._later())

    def not_here(self, primary: str | None) -> Answer:
        """Nothing was committed; who may write is in a header."""
        more = self._later() if self.not_primary_status == 503 else []
        # From the mount, into a header.
        if primary is not None and primary.isprintable():
            more.append((PRIMARY.lower().encode(), primary.encode("latin-1", "replace")))
        return _answer(self.not_primary_status, b"This node must not write.\n", more)

    def _later(self) -> Headers:
        return [(b"retry-after", str(self.retry_after).encode())]

    def _may_run_twice(self, method: str, path: str) -> bool:
        return method in self.safe_methods and not _beneath(path, self.local_paths)

    def _url(self, primary: str | None) -> str | None:
        """Where the primary's application is; none where that is not known."""
        if primary is None or self.to is None:
            return None
        if isinstance(self.to, str):
            return self.to.replace("{name}", primary) if _NAME.fullmatch(primary) else None
        return self.to.get(primary)


def no_answer() -> Answer:
    """504, and not 502: a load balancer that tries a 502 again would do it twice."""
    return _answer(
        504, b"The node that writes did not answer; it may have done what was asked.\n", []
    )


def _answer(status: int, text: bytes, more: Headers) -> Answer:
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", str(len(text)).encode()),
        *more,
        (b"cache-control", b"no-store"),
    ]
    return Answer(status, headers, text)


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


def announced(headers: Iterable[tuple[bytes, bytes]], endless: bool) -> int | None:
    """How much of a body to read and send; none: until it ends, which only some servers let one see (`endless`).
    Without a length, where the server does not say where the body ends, there is none (PEP 3333)."""
    headers = list(headers)
    told = length(headers)
    return None if told is None and endless and is_chunked(headers) else told or 0


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
