"""Where the `litefs-py` program is: where the wheel's installer put it, or on PATH."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

from litefs_py.domain.errors import BinaryNotFound

NAME = "litefs-py"
# Names a program to use instead.
VARIABLE = "LITEFS_PY"
# Names LiteFS, for tests of that engine.
LITEFS_VARIABLE = "LITEFS_PY_TEST_LITEFS"


def find_program() -> Path:
    """Raises `BinaryNotFound` that says where it was looked for."""
    named = os.environ.get(VARIABLE)
    if named:
        if not _is_program(Path(named)):
            raise BinaryNotFound(f"{VARIABLE} names {named}, which is no program")
        return Path(named)
    places = _folders()
    for folder in places:
        if _is_program(folder / NAME):
            return folder / NAME
    found = shutil.which(NAME)
    if found:
        return Path(found)
    looked = ", ".join(str(place) for place in places)
    raise BinaryNotFound(
        f"there is no {NAME} program for {sys.platform} {platform.machine()} here: not in {looked}, "
        f"nor on PATH. Wheels carry it for Linux on x86_64 and aarch64; elsewhere build it with cargo, "
        f"and name it by {VARIABLE}. Clients, settings and plain SQLite work without."
    )


def find_litefs() -> Path:
    """LiteFS itself: the one that is named, that was put into the wheel, or that is on PATH."""
    named = os.environ.get(LITEFS_VARIABLE)
    if named:
        if not _is_program(Path(named)):
            raise BinaryNotFound(f"{LITEFS_VARIABLE} names {named}, which is no program")
        return Path(named)
    within = Path(__file__).resolve().parents[1] / "bin" / "litefs"
    found = str(within) if _is_program(within) else shutil.which("litefs")
    if found is None:
        raise BinaryNotFound(f"there is no LiteFS: set {LITEFS_VARIABLE}, or put litefs on PATH")
    return Path(found)


def _folders() -> list[Path]:
    """As installers lay it: the environment's scripts, those beside a `pip install --target`, the user's."""
    user = sysconfig.get_preferred_scheme("user")
    folders = [
        Path(sysconfig.get_path("scripts")),
        Path(sys.prefix) / "bin",
        Path(__file__).resolve().parents[2] / "bin",
        Path(sysconfig.get_path("scripts", scheme=user)),
    ]
    return list(dict.fromkeys(folders))


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
