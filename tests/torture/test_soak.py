"""The soak's verdict on made-up samples: it must see what grows, and nothing where nothing does."""

import random
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from soak_plot import plot  # noqa: E402
from soak_verdict import MEASURES, MIB, judge, verdict  # noqa: E402

BY_NAME = {measure.name: measure for measure in MEASURES if measure.judged}
COUNT = 900


def bounded(name, values):
    return judge(BY_NAME[name], "n1", list(values)).bounded


def noisy(value, noise, seed=1):
    return value + random.Random(seed * 1000 + int(value)).uniform(-noise, noise)


def test_what_is_level_is_bounded():
    assert bounded("memory", (noisy(120 * MIB + i, 10 * MIB) for i in range(COUNT)))
    assert bounded("files", [40 + i % 5 for i in range(COUNT)])


def test_what_fills_at_first_is_bounded():
    """A cache that has its size after a third of the run."""
    assert bounded("memory", (min(20 + i, 200) * MIB for i in range(COUNT)))


def test_a_leak_is_seen():
    """64 MiB in half an hour on 100 MiB, beneath noise of 10 MiB."""
    leak = 64 * MIB / COUNT
    assert not bounded("memory", (noisy(100 * MIB + i * leak, 10 * MIB) for i in range(COUNT)))


@pytest.mark.parametrize("name", list(BY_NAME))
def test_a_steady_growth_of_each_measure_is_seen(name):
    """From its usual size to four times that."""
    usual = {"files": 40, "threads": 20, "waiting": 8}.get(name, 64 * MIB)
    assert not bounded(name, (usual * (1 + 3 * i / COUNT) for i in range(COUNT)))
    assert bounded(name, (usual for _ in range(COUNT)))


def test_one_file_a_minute_is_seen():
    assert not bounded("files", (40 + i * 30 // COUNT for i in range(COUNT)))


def test_a_saw_tooth_is_bounded_and_a_rising_one_is_not():
    """A WAL beneath a long reader, which lets go twenty times."""
    period = COUNT // 20
    assert bounded("wal", (i % period * 2 * MIB for i in range(COUNT)))
    assert not bounded("wal", (i % period * 2 * MIB * (1 + 3 * i / COUNT) for i in range(COUNT)))


def test_a_wal_that_never_shrinks_again_is_seen():
    """The reader's last time but one kept it for good."""
    assert not bounded("wal", (i * MIB // 4 for i in range(COUNT)))


def test_too_few_samples_are_no_verdict():
    with pytest.raises(ValueError):
        bounded("memory", range(8))


def test_all_nodes_and_measures_are_judged_and_drawn():
    samples = [
        {"seconds": i * 2.0, "node": node, **{measure.name: i % 7 for measure in MEASURES}}
        for i in range(30)
        for node in ("n1", "n2", "n3")
    ]
    samples[-1]["memory"] = 1 << 40
    judged = verdict(samples)
    assert len(judged) == 3 * len(BY_NAME)
    assert [(v.node, v.measure.name) for v in judged if not v.bounded] == [("n3", "memory")]
    svg = ElementTree.fromstring(plot(samples, MEASURES))
    lines = svg.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 3 * len(MEASURES)
