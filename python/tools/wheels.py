"""Builds the wheels, and litefs-py's sdist, into python/dist: `make wheels`, `make wheels ARCH=aarch64`.

The program in litefs-py's is static where that can be built (musl), and its wheel then runs on every Linux of that
machine; else it is an ordinary one, and the wheel says which glibc it wants. For another machine there is only the
static one: by Zig as the C compiler and linker, from PyPI (`scripts/setup.sh aarch64`).

    .venv/bin/python tools/wheels.py [--arch aarch64] [--profile dist] [--program FILE] [--into FOLDER]
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "python"
# What scripts/setup.sh makes for other machines than this one.
ZIG = ROOT / "target/tools/zig/bin"
PURE = ("litefs-django", "litefs-fastapi")


def triple(machine: str) -> str:
    """Rust's name for static programs of a machine."""
    return f"{machine}-unknown-linux-musl"


def missing(machine: str) -> str:
    """Why no static program can be built for a machine here; empty where it can."""
    libraries = subprocess.run(
        ["rustc", "--print", "target-libdir", "--target", triple(machine)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if libraries.returncode or not Path(libraries.stdout.strip()).is_dir():
        return f"Rust has no target {triple(machine)} here (rustup target add {triple(machine)})"
    if machine == platform.machine():
        return "" if shutil.which("musl-gcc") else "no musl-gcc (musl-tools) for what is C"
    if (ZIG / "cargo-zigbuild").exists():
        return ""
    return f"no cargo-zigbuild in {ZIG} for what is C (scripts/setup.sh {machine})"


def build(machine: str, profile: str, reason: str) -> Path:
    """The program for a machine, built. `reason`: why it is no static one."""
    here = machine == platform.machine()
    command, environment = ["cargo", "build"], dict(os.environ)
    if not here:
        command = ["cargo", "zigbuild"]
        environment["PATH"] = f"{ZIG}:{environment['PATH']}"
    command += ["--locked", "--profile", profile]
    target = Path(environment.get("CARGO_TARGET_DIR", ROOT / "target"))
    if reason:
        print(f"not static, so for a glibc like this one: {reason}", flush=True)
    else:
        command += ["--target", triple(machine)]
        target /= triple(machine)
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return target / ("debug" if profile == "dev" else profile) / "litefs-py"


def pack(package: str, kind: str, into: Path, **variables: str) -> Path:
    """One wheel or sdist; its file."""
    into.mkdir(parents=True, exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in into.iterdir()}
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(into)],
        cwd=PYTHON / package,
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    (made,) = (p for p in into.iterdir() if before.get(p) != p.stat().st_mtime_ns)
    print(f"{made.name}  {made.stat().st_size / 1e6:.1f} MB", flush=True)
    return made


def main() -> None:
    """What `make wheels` does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", default=platform.machine())
    parser.add_argument("--profile", default="dist")
    parser.add_argument("--program", type=Path, help="one that is built already")
    parser.add_argument("--into", type=Path, default=PYTHON / "dist")
    parser.add_argument("--or-skip", action="store_true", help="no error where it cannot be built")
    options = parser.parse_args()
    reason = "" if options.program else missing(options.arch)
    if reason and options.arch != platform.machine():
        print(f"SKIPPED wheel for {options.arch}: {reason}")
        sys.exit(0 if options.or_skip else 1)
    program = options.program or build(options.arch, options.profile, reason)
    into = options.into.absolute()
    pack("litefs-py", "wheel", into, LITEFS_PY_BINARY=str(program.absolute()))
    if options.arch == platform.machine():
        pack("litefs-py", "sdist", into)
        for package in PURE:
            pack(package, "wheel", into)


if __name__ == "__main__":
    main()
