#!/usr/bin/env python3
"""A Django board with the admin, on three nodes behind nginx:  uv run examples/django/run.py"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from balanced import Balanced, stay  # noqa: E402


def environment(node):
    return {
        "LITEFS_MOUNT": str(node.mount.path),
        "LITEFS_API": node.socket,
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": str(HERE),
        "DJANGO_SUPERUSER_PASSWORD": "admin",
    }


def prepare(node):
    for command in (
        ["migrate", "--verbosity", "0"],
        ["createsuperuser", "--noinput", "--username", "admin", "--email", "a@b.invalid"],
    ):
        subprocess.run(
            [sys.executable, "-m", "django", *command],
            env={**os.environ, **environment(node)},
            check=True,
        )


def site(folder, **options):
    command = ["gunicorn", "--workers", "1", "--threads", "4", "--bind", "{address}", "wsgi"]
    return Balanced(Path(folder), command, environment, prepare, **options)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, site(folder) as running:
        stay(running, "The board is (admin/admin in /admin/)")
