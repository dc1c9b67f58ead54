#!/usr/bin/env python3
"""Runs the unit tests on every supported Python that this machine has, each in an environment of its own.

    tools/versions.py [VERSION...]

Ends with a line `N passed, N failed, N skipped`; a version that is not here counts as one that was skipped.
Standard library only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

VERSIONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
PYTHON = Path(__file__).resolve().parent.parent
TARGET = PYTHON.parent / "target"


def interpreter(version: str) -> str | None:
    """On PATH, or pyenv's."""
    found = [shutil.which(f"python{version}")]
    found += sorted(map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python")))
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    for path in filter(None, found):
        said = subprocess.run([path, "-c", ask], capture_output=True, text=True)
        if said.stdout.strip() == version:
            return path
    return None


def main(versions: list[str]) -> int:
    """The exit code is 1 if a test failed."""
    uv = shutil.which("uv") or str(TARGET / "tools/uv/bin/uv")
    passed = failed = skipped = 0
    for version in versions:
        path = interpreter(version)
        if path is None:
            print(f"SKIPPED Python {version}: it is not on this machine")
            skipped += 1
            continue
        environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(TARGET / "python" / version)}
        environment.pop("VIRTUAL_ENV", None)
        command = [uv, "run", "--quiet", "--locked", "--python", path, "pytest", "-q"]
        done = subprocess.run(
            command, cwd=PYTHON, env=environment, capture_output=True, text=True, errors="replace"
        )
        counts = {
            word: int(number)
            for number, word in re.findall(r"(\d+) (passed|failed|error)", done.stdout)
        }
        bad = counts.get("failed", 0) + counts.get("error", 0)
        if done.returncode and not bad:
            bad = 1
        passed, failed = passed + counts.get("passed", 0), failed + bad
        if bad:
            print(done.stdout[-6000:], done.stderr[-2000:])
        print(f"Python {version}: {counts.get('passed', 0)} passed, {bad} failed", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or VERSIONS))
