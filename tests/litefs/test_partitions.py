"""Three machines, as network namespaces, and what is cut between them; under load everywhere, TTL 3 s."""

import json

import pytest
from torture import run_torture

# After a cut a primary goes on for at most 4 s (src/litefs/timing.rs), and a busy machine may be late.
GIVES_UP = 4.4
# Another writes within so many: the lease has run out, a leader is elected, one is chosen.
ELSEWHERE = 15.0


@pytest.fixture(scope="module")
def partitions(tmp_path_factory):
    """All of them, one after the other, in one cluster; each judged as a round of the nemesis is."""
    folder = tmp_path_factory.mktemp("partitions")
    run_torture("litefs_partitions.py", "--folder", folder, deadline=180)
    return json.loads((folder / "partitions.json").read_text())


@pytest.mark.parametrize("which", ["alone", "unheard", "deaf"])
def test_a_primary_is_cut_off(partitions, which, measured):
    """one-primary: it stops in time, and before another begins; nothing-discarded: what it acknowledged
    meanwhile is set aside; converges: all are the same afterwards. Both ways, and one way."""
    seen = partitions[f"primary-{which}"]
    assert seen["problems"] == []
    assert seen["before"] > 20 and seen["written_after"] > 10
    assert seen["stopped_after"] < GIVES_UP
    assert seen["stopped_after"] < seen["elsewhere_after"] < ELSEWHERE
    lost = seen["lost"]
    assert 0 < lost["acknowledged"] == lost["kept"] <= seen["before"] + seen["written_there"]
    measured(
        f"the primary is {which}: it stopped after {seen['stopped_after']:.1f} s, another wrote after "
        f"{seen['elsewhere_after']:.1f} s; {lost['acknowledged']} rows set aside"
    )


def test_a_replica_is_cut_off(partitions, measured):
    """It costs nobody anything, and comes back."""
    seen = partitions["replica-alone"]
    assert seen["problems"] == [] and not any(seen["lost"].values())
    assert seen["written_there"] == 0
    assert seen["longest_pause_elsewhere"] < 2
    measured(f"a replica alone: the longest pause {seen['longest_pause_elsewhere']:.2f} s")
