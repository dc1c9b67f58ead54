"""What an error of SQLite is about. Python 3.10 tells no code, only the message."""

from __future__ import annotations

import re
import sqlite3
from enum import IntEnum


class Code(IntEnum):
    """SQLite's primary result codes that mean something here."""

    BUSY = 5
    LOCKED = 6
    READONLY = 8
    IOERR = 10
    CORRUPT = 11
    CANTOPEN = 14
    PROTOCOL = 15


BUSY_SNAPSHOT = 5 | 2 << 8
IOERR_WRITE = 10 | 3 << 8

_MESSAGES = {
    "database is locked": Code.BUSY,
    "database table is locked": Code.LOCKED,
    "attempt to write a readonly database": Code.READONLY,
    "disk I/O error": Code.IOERR,
    "unable to open database file": Code.CANTOPEN,
    "locking protocol": Code.PROTOCOL,
    "database disk image is malformed": Code.CORRUPT,
}


def code_of(error: BaseException) -> Code | None:
    """The primary code, where it is one of those above."""
    extended = getattr(error, "sqlite_errorcode", None)
    if extended is None:
        return _MESSAGES.get(str(error)) if isinstance(error, sqlite3.Error) else None
    try:
        return Code(extended & 0xFF)
    except ValueError:
        return None


def could_not_write(error: BaseException) -> bool:
    """A write to a file was refused, and not a read, a sync or a removal. Python 3.10 cannot tell."""
    return getattr(error, "sqlite_errorcode", None) == IOERR_WRITE


def first_word(statement: str) -> str:
    """The statement's first word, in capitals."""
    words = statement.lstrip().split(None, 1)
    return words[0].upper().rstrip(";") if words else ""


def is_read(statement: str) -> bool:
    """Whether a statement outside a transaction commits nothing."""
    return first_word(statement) in _READS and not _pragma_writes(statement)


def changes_rows(statement: str) -> bool:
    """Whether it is one of those before which `sqlite3` begins a transaction.

    The count of changes does not tell in time: with RETURNING it goes up when the last row was fetched.
    """
    return first_word(statement) in _WRITES


def may_write(statement: str) -> bool:
    """Whether it may write, or begins what may."""
    return first_word(statement) not in _ONLY_READS or _pragma_writes(statement)


def _pragma_writes(statement: str) -> bool:
    """Whether it is a PRAGMA that changes the file, and not only the connection."""
    found = _PRAGMA.match(statement)
    if found is None:
        return False
    name, value = found[1].lower(), found[2]
    return name in _PRAGMAS_THAT_WRITE or (name in _PRAGMAS_THAT_SET and value is not None)


_ONLY_READS = {"SELECT", "PRAGMA", "EXPLAIN", "VALUES", "ROLLBACK", "COMMIT", "END"}
_READS = {"SELECT", "PRAGMA", "EXPLAIN", "BEGIN", "SAVEPOINT", "ROLLBACK", "VALUES"}
_PRAGMA = re.compile(r"\s*PRAGMA\s+(?:\w+\s*\.\s*)?(\w+)\s*([=(])?", re.IGNORECASE)
_PRAGMAS_THAT_WRITE = {"incremental_vacuum", "optimize"}
_PRAGMAS_THAT_SET = {
    "application_id", "auto_vacuum", "encoding", "journal_mode", "schema_version", "user_version",
}  # fmt: skip
_WRITES = {"INSERT", "UPDATE", "DELETE", "REPLACE"}
