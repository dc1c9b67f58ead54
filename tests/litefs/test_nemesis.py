"""Short rounds of the nemesis with this engine, their seeds fixed; `tests/torture/litefs_run.py --seed N` replays
any other, and `make torture PART=nemesis-litefs` makes longer ones."""

import json

import pytest
from torture import run_torture


@pytest.mark.parametrize(
    ("seed", "seconds", "faults", "least"),
    [(1, 40, (), 6), (1, 12, ("--faults", "planned"), 5)],
    ids=["all-faults", "planned"],
)
def test_the_promises_hold_under_a_nemesis(tmp_path, seed, seconds, faults, least, measured):
    """one-primary, one-history, nothing-discarded, converges: what the clients recorded is judged by
    tests/torture/litefs_judge.py. Of what is planned, nothing is lost."""
    folder = tmp_path / "run"
    said = run_torture(
        "litefs_run.py", "--seed", seed, "--seconds", seconds, "--folder", folder, *faults,
        deadline=seconds + 120,
    )  # fmt: skip
    report = json.loads((folder / "report.json").read_text())
    assert report["problems"] == [] and report["finished"], said
    assert report["faults_total"] >= least, said
    assert report["transactions"]["acknowledged"] > 500, said
    if faults:
        assert report["lost"] == 0
    measured(
        f"nemesis{' of what is planned' if faults else ''}: {report['faults_total']} faults, "
        f"{report['transactions']['acknowledged']} acknowledged, lost {report['lost_how']}"
    )
