"""Short rounds of real processes under a nemesis. Their seeds are fixed, so that the faults are the same
each time; `run.py --seed N` replays any other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import isolation
import pytest
from run import program

HERE = Path(__file__).parent
# The longest that a round may take beyond its faults: setting up, healing, checking.
BEYOND = 240
# Of the members and of the disks: each takes longer than a kill, and there are fewer of them in a round.
MEMBERS_AND_DISKS = "guest,demoted,removed,wiped,rot-while-stopped,rot-while-running,disk-full"


@pytest.mark.parametrize(
    ("seed", "nodes", "seconds", "which", "least"),
    [(1, 3, 25, "--without", 5), (1, 3, 25, "--faults", 3)],
    ids=["processes-and-network", "members-and-disks"],
)
def test_the_promises_hold_under_a_nemesis(tmp_path, seed, nodes, seconds, which, least):
    """no-lost-ack, one-history, invisible-until-committed, caught-up, bounded-answer, readers-go-on,
    converges: what the clients recorded is judged by the checker."""
    if reason := isolation.why_not(program()):
        pytest.skip(reason)
    folder = tmp_path / "run"
    arguments = ["--seed", seed, "--nodes", nodes, "--seconds", seconds, "--folder", folder]
    arguments += [which, MEMBERS_AND_DISKS]
    process = subprocess.Popen(
        [sys.executable, str(HERE / "run.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        said, _ = process.communicate(timeout=seconds + BEYOND)
    finally:
        # Its namespaces end with it, and all that is in them.
        process.kill()
        process.wait()
    assert process.returncode == 0, said[-20_000:]
    report = json.loads((folder / "report.json").read_text())
    assert report["problems"] == []
    assert report["faults_total"] >= least, said
    assert report["transactions"]["acknowledged"] > 500, said
    assert (folder / "timeline.svg").read_text().startswith("<svg")
    assert (report["lost"], report["duplicated"]) == (0, 0)
