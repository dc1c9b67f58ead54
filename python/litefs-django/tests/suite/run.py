#!/usr/bin/env python3
"""Django's own test suite, its databases on the mount of a real cluster.

    run.py [--parallel N] [--all | --part 1/4 | LABEL...]     needs FUSE and the litefs-py program ($LITEFS_PY)

Without labels: the part that has to do with databases most; with --all: all of it, some half an hour on a machine that
has nothing else to do; with --part a fourth of all, so that who is ended goes on there. The tests come
with Django's source, which is fetched from the package index once. What is skipped, and why, stands in `skipped.py`
beside this file. Ends with a line `N passed, N failed, N skipped`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import django
from litefs_py.cluster import Cluster
from litefs_py.testing import why_not

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[3] / "target" / "django"
PART = (
    "backends transactions transaction_hooks basic bulk_create schema migrations multiple_database db_utils "
    "select_for_update queries expressions"
)
# Django's own runner does without these, too.
NO_TESTS = {"gis_tests", "import_error_package", "test_runner_apps"}
SETTINGS = """
DATABASES = {{
    alias: {{
        "ENGINE": "litefs_django.db.backends.litefs",
        "NAME": f"{{alias}}.db",
        "TEST": {{"NAME": f"test_{{alias}}.db"}},
    }}
    for alias in ("default", "other")
}}
LITEFS = {{"MOUNT": {mount!r}, "API": {api!r}, "BUSY_TIMEOUT": 20.0}}
SECRET_KEY = "django_tests_secret_key"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False

import sys
sys.path.insert(0, {here!r})
import skipped
skipped.apply()
"""


def tests() -> Path:
    """The folder of Django's tests, of the version that is installed."""
    version = django.get_version()
    folder = CACHE / f"django-{version}"
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as download:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--no-binary", ":all:", "--dest", download, f"django=={version}"]
            subprocess.run(command, check=True)
            (archive,) = Path(download).iterdir()
            subprocess.run(["tar", "-xf", archive, "-C", download], check=True)
            archive.unlink()
            (top,) = Path(download).iterdir()
            top.rename(folder)
    return folder / "tests"


def part(told: str) -> list[str]:
    """The labels of one part, 1/4; each has of the slow and of the quick ones. What needs GIS is left out, as
    Django leaves it out where the engine has none."""
    number, parts = map(int, told.split("/"))
    modules = sorted(path.parent.name for path in tests().glob("*/__init__.py"))
    return [name for name in modules if name not in NO_TESTS][number - 1 :: parts]


def main() -> int:
    """The exit code is 1 if a test failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("labels", nargs="*")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--part", metavar="N/M")
    parser.add_argument("--parallel", default="2")
    options = parser.parse_args()
    if reason := why_not():
        print(f"SKIPPED django suite: {reason}\n0 passed, 0 failed, 1 skipped")
        return 0
    labels = [] if options.all else options.labels or PART.split()
    if options.part:
        labels = part(options.part)
    with tempfile.TemporaryDirectory() as name, Cluster(Path(name) / "cluster", 3) as cluster:
        # A follower: every lock and every commit goes the long way.
        node = cluster.followers()[0]
        settings = SETTINGS.format(mount=str(node.mount.path), api=node.socket, here=str(HERE))
        (Path(name) / "suite_settings.py").write_text(settings)
        code, output = run(labels, options.parallel, Path(name))
    return report(code, output)


def run(labels: list[str], parallel: str, folder: Path) -> tuple[int, str]:
    """Shows the output as it comes, and keeps it."""
    command = [sys.executable, "-W", "ignore", "runtests.py", "--settings", "suite_settings"]
    command += ["--parallel", parallel, "--noinput", *labels]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        command,
        cwd=tests(),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines: list[str] = []
    # The dots are one line, and half an hour of it.
    while process.stdout and (piece := process.stdout.read(1)):
        lines.append(piece)
        sys.stdout.write(piece)
        sys.stdout.flush()
    return process.wait(), "".join(lines)


def report(code: int, output: str) -> int:
    """Counts, from what unittest says at its end."""
    ran = re.search(r"^Ran (\d+) tests? in", output, re.MULTILINE)
    end = output[ran.end() :] if ran else ""
    counts = {word: int(number) for word, number in re.findall(r"(\w[\w ]*)=(\d+)", end)}
    failed = sum(counts.get(word, 0) for word in ("failures", "errors", "unexpected successes"))
    skipped = counts.get("skipped", 0) + counts.get("expected failures", 0)
    total = int(ran[1]) if ran else 0
    if code and not failed:
        failed = 1
    print(f"{max(0, total - failed - skipped)} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
