"""The nearest known word to an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was most probably meant; case does not count."""
    by_lower = {k.lower(): k for k in known}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def unknown(word: str, known: Iterable[str]) -> str:
    """What to say of an unknown word."""
    known = sorted(known)
    near = nearest(word, known)
    return f"{word}: there is no such setting; " + (
        f"did you mean {near}?" if near else f"there are {', '.join(known)}"
    )
