"""An SQLite file into the cluster, by pieces: what broke off goes on where it was."""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from litefs_py.adapters.http import calls
from litefs_py.adapters.http.client import Client
from litefs_py.domain.errors import LitefsError, SettingsError, WaitTimeout
from litefs_py.domain.status import Imported

_PIECE = 4 << 20
_TURNS = 120


def import_file(
    client: Client,
    source: Path,
    name: str,
    progress: Callable[[int, int], None] = lambda done, size: None,
) -> Imported:
    """Makes a database of a file, on all nodes; checked here and there, whole or not at all.

    The file is copied first by SQLite's own backup, with what lies in its WAL, so that programs may have it
    open. The same bytes under the same name go on where an earlier try ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        _copy(source, copy)
        size, digest = copy.stat().st_size, _digest(copy)
        begun = client.ask(calls.begin_import(name, size, digest))
        upload, received = str(begun["upload"]), int(begun["received"])
        with copy.open("rb") as file:
            while received < size:
                progress(received, size)
                file.seek(received)
                piece = file.read(_PIECE)
                done = client.ask(calls.import_piece(name, upload, received, piece))
                received = int(done["received"])
        progress(size, size)
    for _ in range(_TURNS):
        body = client.ask(calls.finish_import(name, upload, 10.0))
        if "position" in body:
            return calls.imported(body)
    raise WaitTimeout(f"{name} is still being imported; ask again with the same file")


def _copy(source: Path, copy: Path) -> None:
    if not source.is_file():
        raise SettingsError(f"{source}: there is no such file")
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as before,
            closing(sqlite3.connect(copy)) as after,
        ):
            before.backup(after)
            found = after.execute("PRAGMA integrity_check").fetchall()
    except sqlite3.Error as error:
        raise LitefsError(f"{source}: {error}") from error
    if found != [("ok",)]:
        raise LitefsError(f"{source} is damaged: {found[0][0]}")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
