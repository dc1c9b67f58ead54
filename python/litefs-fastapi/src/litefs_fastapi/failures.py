"""What is answered when a node cannot serve, and which failures a load balancer may answer by asking another one."""

from __future__ import annotations

from collections.abc import Iterator

from litefs_py import NodeDown, NotPrimaryError, QuorumLost
from litefs_py.adapters.config.app import AppSettings
from litefs_py.usecases.forwarding import PRIMARY, Headers

# Nothing was committed.
SAFE_TO_REPEAT = (NodeDown, QuorumLost, NotPrimaryError)
TEXT = b"The database is not available at this moment.\n"
NOT_HERE = b"This node must not write.\n"
OPEN = b"The node that writes did not answer; it may have done what was asked.\n"

Answer = tuple[int, Headers, bytes]


def unavailable(settings: AppSettings) -> Answer:
    """503: another node may be asked the same."""
    return _plain(503, TEXT, (b"retry-after", str(settings.retry_after).encode()))


def not_here(settings: AppSettings, primary: str | None) -> Answer:
    """Nothing was committed; who may write is in a header."""
    status = settings.not_primary_status
    more: Headers = []
    if status == 503:
        more.append((b"retry-after", str(settings.retry_after).encode()))
    if primary is not None:
        more.append((PRIMARY.lower().encode(), primary.encode("latin-1", "replace")))
    return _plain(status, NOT_HERE, *more)


def no_answer() -> Answer:
    """504, and not 502: a load balancer that tries a 502 again would do it twice."""
    return _plain(504, OPEN)


def of_failure(settings: AppSettings, error: BaseException) -> Answer:
    """Of one that is safe to repeat."""
    refused = not_primary(error)
    return unavailable(settings) if refused is None else not_here(settings, refused.primary)


def is_safe_to_repeat(error: BaseException | None) -> bool:
    """SQLAlchemy, and others, put exceptions of their own around ours."""
    return any(isinstance(one, SAFE_TO_REPEAT) for one in _chain(error))


def not_primary(error: BaseException | None) -> NotPrimaryError | None:
    """The one within, if this is about it."""
    return next((one for one in _chain(error) if isinstance(one, NotPrimaryError)), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or getattr(error, "orig", None)


def _plain(status: int, text: bytes, *more: tuple[bytes, bytes]) -> Answer:
    headers: Headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", str(len(text)).encode()),
        *more,
        (b"cache-control", b"no-store"),
    ]
    return status, headers, text
