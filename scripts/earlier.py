#!/usr/bin/env python3
"""Builds the earlier version that upgrades are tested from: the commit in tests/cluster/EARLIER.

Its source goes to target/earlier/source, its program to target/earlier/build/release/litefs-py.
Standard library only.
"""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "target" / "earlier"


def main():
    commit = (ROOT / "tests" / "cluster" / "EARLIER").read_text().strip()
    source = FOLDER / "source"
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        print(f"the history has no commit {commit}: fetch all of it (git fetch --unshallow)")
        return 1
    source.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(source, filter="data")
    command = ["cargo", "build", "--locked", "--release", "--target-dir", str(FOLDER / "build")]
    return subprocess.run(command, cwd=source, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
