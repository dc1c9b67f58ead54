#!/usr/bin/env python3
"""Builds the earlier version that upgrades are tested from.

    scripts/earlier.py              the program of the commit in tests/cluster/EARLIER:
                                    target/earlier/build/release/litefs-py
    scripts/earlier.py --package    the Debian package of that in tests/packaging/EARLIER, by its own
                                    packaging/deb.py: target/earlier/package/litefs-py-earlier.deb

Wants the history of git; the package, what `make deb` does. Standard library only.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "target" / "earlier"
STATIC = f"{os.uname().machine}-unknown-linux-musl"


def source_of(commit, name):
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        sys.exit(f"the history has no commit {commit}: fetch all of it (git fetch --unshallow)")
    source = FOLDER / name
    source.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-x", "-C", source], input=archive.stdout, check=True)
    return source


def build(source, *options):
    command = ["cargo", "build", "--locked", "--release", "--target-dir", str(FOLDER / "build")]
    subprocess.run([*command, *options], cwd=source, check=True)
    return FOLDER / "build"


def program():
    build(source_of((ROOT / "tests/cluster/EARLIER").read_text().strip(), "source"))


def package():
    """Older by its revision, whatever its version."""
    source = source_of((ROOT / "tests/packaging/EARLIER").read_text().strip(), "package-source")
    built = build(source, "--target", STATIC) / STATIC / "release" / "litefs-py"
    command = [sys.executable, "packaging/deb.py", "--revision", "0"]
    environment = {**os.environ, "LITEFS_PY_STATIC": str(built)}
    # Those are about the package of today.
    for name in ("LITEFS_PY_PACKAGES", "LITEFS_PY_PACKED"):
        environment.pop(name, None)
    subprocess.run(command, cwd=source, check=True, env=environment)
    made = max((source / "target/packages").glob("*.deb"), key=lambda path: path.stat().st_mtime)
    kept = FOLDER / "package"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    shutil.copyfile(made, kept / "litefs-py-earlier.deb")


def main():
    try:
        package() if sys.argv[1:] == ["--package"] else program()
    except subprocess.CalledProcessError as failed:
        sys.exit(f"the earlier version cannot be built: {failed}")


if __name__ == "__main__":
    main()
