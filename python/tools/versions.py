#!/usr/bin/env python3
"""Runs the unit tests on every supported Python that this machine has, each in an environment of its own; and those of
litefs-django with the oldest Django, too, beside those of the lock file, on the last Python here that it is for.

    tools/versions.py [--all] [VERSION...]      --all: every Django on every Python that it is for

Ends with a line `N passed, N failed, N skipped`; a Python that is not here counts as one that was skipped.
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
# Django's, by the first and the last Python that each is for (its FAQ, "What Python version can I use").
DJANGOS = {
    "4.2": ("3.10", "3.12"),
    "5.0": ("3.10", "3.12"),
    "5.1": ("3.10", "3.13"),
    "5.2": ("3.10", "3.14"),
    "6.0": ("3.12", "3.14"),
}
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


def minor(version: str) -> int:
    """13 of 3.13."""
    return int(version.split(".")[1])


def run(uv: str, path: str, environment: dict[str, str], *options: str) -> tuple[int, int]:
    """How many passed and failed."""
    command = [uv, "run", "--quiet", "--locked", "--python", path, *options]
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
    if bad:
        print(done.stdout[-6000:], done.stderr[-2000:])
    return counts.get("passed", 0), bad


def djangos(version: str, here: list[str], everything: bool) -> list[str]:
    """Which of them are tried on a Python, of those that are here."""
    fitting = {
        django: [one for one in here if minor(first) <= minor(one) <= minor(last)]
        for django, (first, last) in DJANGOS.items()
    }
    if everything:
        return [django for django, fit in fitting.items() if version in fit]
    oldest = next(iter(fitting))
    return [oldest] if version in fitting[oldest][-1:] else []


def main(wanted: list[str]) -> int:
    """The exit code is 1 if a test failed."""
    uv = shutil.which("uv") or str(TARGET / "tools/uv/bin/uv")
    everything = "--all" in wanted
    asked = [version for version in wanted if version != "--all"] or VERSIONS
    paths = {version: path for version in asked if (path := interpreter(version))}
    passed = failed = skipped = 0
    for version in asked:
        if version not in paths:
            print(f"SKIPPED Python {version}: it is not on this machine")
            skipped += 1
            continue
        environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(TARGET / "python" / version)}
        environment.pop("VIRTUAL_ENV", None)
        runs = {f"Python {version}": ["pytest", "-q"]}
        for django in djangos(version, list(paths), everything):
            of_django = ["pytest", "-q", "litefs-django/tests/unit"]
            runs[f"Python {version}, Django {django}"] = [
                *("--with", f"django=={django}.*", "python", "-m", *of_django)
            ]
        for name, options in runs.items():
            good, bad = run(uv, paths[version], environment, *options)
            passed, failed = passed + good, failed + bad
            print(f"{name}: {good} passed, {bad} failed", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
