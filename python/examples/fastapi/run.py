#!/usr/bin/env python3
"""Notes by FastAPI, on three nodes behind nginx:  uv run examples/fastapi/run.py"""

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
        "LITEFS_SECRET": "an example's, known to all",
        "PYTHONPATH": str(HERE),
    }


def prepare(node):
    with node.connect("notes.db") as connection:
        connection.execute(
            "CREATE TABLE note (id CHAR(32) PRIMARY KEY, text VARCHAR(200) NOT NULL)"
        )
    connection.close()


def site(folder, **options):
    command = [
        "uvicorn",
        "--host",
        "127.0.0.1",
        "--port",
        "{port}",
        "--log-level",
        "warning",
        "app:app",
    ]
    return Balanced(Path(folder), command, environment, prepare, **options)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, site(folder) as running:
        stay(running, "Notes are (see /docs)")
