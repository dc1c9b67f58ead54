"""Positions of databases, and tokens made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_WRITTEN = re.compile(r"([0-9a-f]{16})/([0-9a-f]{16})\n?")


@dataclass(frozen=True)
class Position:
    """Of a database: its last transaction, and the checksum of all its pages."""

    txid: int
    checksum: int

    @classmethod
    def parse(cls, text: str) -> Position:
        """As nodes write it: `000000000000001f/d431d64c31ba84c7`."""
        found = _WRITTEN.fullmatch(text)
        if not found:
            raise ValueError(f"not a position: {text[:60]!r}")
        return cls(int(found[1], 16), int(found[2], 16))

    def __str__(self) -> str:
        return f"{self.txid:016x}/{self.checksum:016x}"


class Token(Mapping[str, int]):
    """How far somebody has seen each database: its name, and the number of a transaction.

    Numbers of transactions never go back within a database's life, so a node has what the token tells
    of when it is there or further.
    """

    def __init__(self, positions: Mapping[str, int] | None = None) -> None:
        self._positions = dict(positions or {})

    def __getitem__(self, name: str) -> int:
        return self._positions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def __repr__(self) -> str:
        return f"Token({self._positions!r})"

    def joined(self, other: Mapping[str, int]) -> Token:
        """The further one of both, for each database."""
        both = self._positions | dict(other)
        return Token({name: max(txid, self.get(name, 0)) for name, txid in both.items()})
