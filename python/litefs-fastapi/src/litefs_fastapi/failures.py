"""Which exceptions of an application mean that nothing was committed."""

from __future__ import annotations

from collections.abc import Iterator

from litefs_py import NotPrimaryError
from litefs_py.domain.errors import SAFE_TO_REPEAT


def safe_to_repeat(error: BaseException | None) -> BaseException | None:
    """The one of ours within: SQLAlchemy, and others, put exceptions of their own around it."""
    found = [one for one in _chain(error) if isinstance(one, SAFE_TO_REPEAT)]
    # Where the request can be done instead, only this one knows.
    refused = (one for one in found if isinstance(one, NotPrimaryError))
    return next(refused, found[0] if found else None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or getattr(error, "orig", None)
