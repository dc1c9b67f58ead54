"""Scripts of tests/torture, which go into namespaces of their own: nothing of theirs can be left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_fixtures import PROGRAM
from litefs_cluster import find_litefs

FOLDER = Path(__file__).parents[1] / "torture"


def run_torture(script, *arguments, deadline):
    """What it says; the test is skipped where it says that it cannot run here."""
    process = subprocess.Popen(
        [sys.executable, FOLDER / script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "LITEFS_PY": str(PROGRAM),
            "LITEFS_PY_TEST_LITEFS": str(find_litefs()[0]),
        },
    )
    try:
        said, _ = process.communicate(timeout=deadline)
    finally:
        # Its namespaces end with it, and all that is in them.
        process.kill()
        process.wait()
    if said.startswith("SKIPPED"):
        pytest.skip(said.splitlines()[0].partition(": ")[2])
    assert process.returncode == 0, said[-20_000:]
    return said
