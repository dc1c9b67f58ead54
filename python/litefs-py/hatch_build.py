"""Puts the `litefs-py` program into the wheel, and the Rust sources into the sdist.

    LITEFS_PY_BINARY=/path/to/litefs-py uv build --wheel     a program that was built elsewhere
    LITEFS_PY_LITEFS=/path/to/litefs                         LiteFS's too, kept off PATH
    LITEFS_PY_BINARY=none                                    without: clients, settings and adapters only
    LITEFS_PY_PROFILE=release                                cargo's profile, in place of `dist`

Without the first cargo builds it, of the sources around (in the repository) or within (in the sdist). Editable
installs have none: there LITEFS_PY, or PATH, says where it is. See docs/decisions/wheel-by-hatch-hook.md.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = (
    "src",
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    "clippy.toml",
    "stand-in",
    "LICENSE",
)
# Machines as ELF numbers them.
MACHINES = {62: "x86_64", 183: "aarch64"}


class CustomBuildHook(BuildHookInterface):
    """Called by hatchling."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the files of this build."""
        if self.target_name == "sdist":
            self._sources(build_data)
        elif version != "editable":
            self._program(build_data)

    def _sources(self, build_data: dict[str, Any]) -> None:
        repository = Path(self.root).parent.parent
        if (repository / "Cargo.toml").exists():
            for name in SOURCES:
                build_data["force_include"][str(repository / name)] = f"rust/{name}"

    def _program(self, build_data: dict[str, Any]) -> None:
        named = os.environ.get("LITEFS_PY_BINARY", "")
        if named == "none":
            return
        program = Path(named) if named else self._built()
        build_data["shared_scripts"][str(program)] = "litefs-py"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{tag(program)}"
        if litefs := os.environ.get("LITEFS_PY_LITEFS"):
            build_data["force_include"][litefs] = "litefs_py/bin/litefs"

    def _built(self) -> Path:
        root = Path(self.root)
        manifest = next(
            (
                m
                for m in (root / "rust/Cargo.toml", root.parent.parent / "Cargo.toml")
                if m.exists()
            ),
            None,
        )
        if manifest is None or shutil.which("cargo") is None or sys.platform != "linux":
            raise RuntimeError(
                f"litefs-py has no wheel for {sys.platform} {platform.machine()}, and to build it takes "
                f"cargo (Rust 1.95) on Linux. LITEFS_PY_BINARY names a program that is built, or 'none' to "
                f"do without it."
            )
        profile = os.environ.get("LITEFS_PY_PROFILE", "dist")
        target = Path(os.environ.get("CARGO_TARGET_DIR", manifest.parent / "target")).absolute()
        command = ["cargo", "build", "--locked", "--profile", profile, "--target-dir", str(target)]
        # In its folder: rustup reads there which toolchain it takes.
        subprocess.run(command, check=True, cwd=manifest.parent)
        return target / ("debug" if profile == "dev" else profile) / "litefs-py"


def tag(program: Path) -> str:
    """Which systems a program runs on: of what is linked statically, all; else those with such a glibc."""
    head = program.read_bytes()
    if head[:4] != b"\x7fELF":
        raise RuntimeError(f"{program} is no program for Linux")
    machine = MACHINES.get(int.from_bytes(head[18:20], "little"))
    if machine is None:
        raise RuntimeError(f"{program} is for a machine that there are no wheels for")
    if not is_dynamic(head):
        return f"manylinux_2_17_{machine}.manylinux2014_{machine}.musllinux_1_1_{machine}"
    versions = [(int(a), int(b)) for a, b in re.findall(rb"GLIBC_(\d+)\.(\d+)", head)]
    return "manylinux_{}_{}_{}".format(*max(versions), machine) if versions else f"linux_{machine}"


def is_dynamic(head: bytes) -> bool:
    """Whether an ELF program of 64 bits asks for an interpreter (a program header PT_INTERP)."""
    offset = int.from_bytes(head[32:40], "little")
    size, number = (int.from_bytes(head[at : at + 2], "little") for at in (54, 56))
    kinds = (head[offset + size * n : offset + size * n + 4] for n in range(number))
    return any(int.from_bytes(kind, "little") == 3 for kind in kinds)
