"""Which failures a load balancer may answer by asking another node."""

from __future__ import annotations

from litefs_py import NodeDown, NotPrimaryError, QuorumLost

# Nothing was committed.
SAFE_TO_REPEAT = (NodeDown, QuorumLost, NotPrimaryError)
TEXT = b"The database is not available at this moment.\n"


def is_safe_to_repeat(error: BaseException | None) -> bool:
    """SQLAlchemy, and others, put exceptions of their own around ours."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, SAFE_TO_REPEAT):
            return True
        seen.add(id(error))
        error = error.__cause__ or getattr(error, "orig", None)
    return False
