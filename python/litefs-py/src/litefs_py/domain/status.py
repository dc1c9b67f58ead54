"""What nodes tell about themselves. The fields are those of docs/openapi.json, which a test compares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from litefs_py.domain.position import Position


@dataclass(frozen=True)
class Quorum:
    """Whether a majority answers; `age_ms`: since when it last did."""

    ok: bool
    age_ms: int | None


@dataclass(frozen=True)
class Member:
    """A member, as the node that was asked sees it."""

    id: int
    name: str
    address: str
    role: Literal["leader", "voter", "learner"]
    reachable: bool
    matched: int | None = None
    lag: int | None = None


@dataclass(frozen=True)
class Indeterminate:
    """A COMMIT that was answered with an error although it was, or may have been, committed."""

    transaction: str
    database: str
    answered_ms: int
    outcome: Literal["committed", "refused", "open"]


@dataclass(frozen=True)
class Snapshot:
    """A database on its way from one node to another."""

    database: str
    node: str
    stage: Literal["comparing", "sending", "receiving", "installing"]
    bytes: int
    done: int
    there_before: int
    running_ms: int


@dataclass(frozen=True)
class Status:
    """A node, and the cluster as it sees it."""

    cluster: str
    id: int
    name: str
    version: str
    uptime_seconds: int
    role: Literal["primary", "replica"]
    raft_role: str
    term: int
    leader: str | None
    quorum: Quorum
    applied_index: int
    committed_index: int
    lag_ms: int | None
    serving: bool
    not_ready: list[str]
    stuck: str | None
    members: list[Member]
    indeterminate: list[Indeterminate] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)

    @property
    def can_write(self) -> bool:
        """There is a leader, and a majority behind it."""
        return self.leader is not None and self.quorum.ok


@dataclass(frozen=True)
class Database:
    """A database, as the node that was asked has applied it."""

    name: str
    incarnation: int
    position: Position
    page_size: int
    pages: int
    journal: Literal["wal", "rollback"]
    wal_bytes: int
    write_lock: str | None
    waiting: int
    behind: int = 0


@dataclass(frozen=True)
class Health:
    """What a health endpoint says. `ok`: 200, and not 503."""

    ok: bool
    state: str
    role: Literal["primary", "replica"]
    lag_ms: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Switchover:
    """`done`: `leader` leads now. `accepted`: it was asked to, and had not taken over in time."""

    state: Literal["done", "accepted"]
    leader: str


@dataclass(frozen=True)
class Copy:
    """What one node has of a database; `why` it was found damaged, or not read."""

    state: Literal["sound", "missing", "damaged", "unread"]
    incarnation: int | None = None
    position: Position | None = None
    pages: int | None = None
    why: str | None = None


@dataclass(frozen=True)
class Checked:
    """A database as it was found on each node, by the node's name."""

    name: str
    copies: dict[str, Copy]

    @property
    def sound(self) -> bool:
        """Every node has it, whole, and in the same incarnation."""
        copies = list(self.copies.values())
        return all(c.state == "sound" for c in copies) and len({c.incarnation for c in copies}) == 1


@dataclass(frozen=True)
class Imported:
    """A database that was taken in."""

    database: str
    incarnation: int
    position: Position
    page_size: int
    pages: int
    journal: Literal["wal", "rollback"]
