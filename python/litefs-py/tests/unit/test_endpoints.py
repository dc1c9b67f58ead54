"""Which endpoint is asked, and which next."""

import pytest
from litefs_py import NodeDown, WaitTimeout
from litefs_py.usecases.endpoints import Answer, Endpoints, Reach, Unreached

GOOD = Answer(200, b"{}")
REFUSED = Unreached("refused", sent=False)
CUT = Unreached("cut off", sent=True)
SILENT = Unreached("silent", sent=True, timed_out=True)


def drive(endpoints, reach, answers, seconds=6.0):
    """What was asked, and the answer."""
    now = [0.0]
    plan, asked = endpoints.plan(reach, seconds, lambda: now[0]), []
    turn = next(plan)
    while True:
        asked.append(turn.endpoint)
        got = answers[turn.endpoint]
        now[0] += turn.seconds if isinstance(got, Unreached) and got.timed_out else 0.0
        try:
            turn = plan.send(got)
        except StopIteration as over:
            return asked, over.value


def test_reads_go_on_and_stay():
    endpoints = Endpoints(3)
    assert drive(endpoints, Reach.ANY_NODE, [REFUSED, CUT, GOOD]) == ([0, 1, 2], GOOD)
    assert drive(endpoints, Reach.ANY_NODE, [GOOD, GOOD, GOOD]) == ([2], GOOD)


def test_a_silent_node_leaves_time_for_the_others():
    assert drive(Endpoints(3), Reach.ANY_NODE, [SILENT, SILENT, GOOD]) == ([0, 1, 2], GOOD)


def test_a_change_goes_on_only_if_nothing_was_sent():
    assert drive(Endpoints(2), Reach.ANY_NODE_ONCE, [REFUSED, GOOD]) == ([0, 1], GOOD)
    with pytest.raises(NodeDown, match="cut off"):
        drive(Endpoints(2), Reach.ANY_NODE_ONCE, [CUT, GOOD])


def test_this_node_is_the_first():
    endpoints = Endpoints(2)
    endpoints.last_good = 1
    with pytest.raises(NodeDown, match="refused"):
        drive(endpoints, Reach.THIS_NODE, [REFUSED, GOOD])


def test_silence_is_a_timeout():
    with pytest.raises(WaitTimeout, match="within 6 s"):
        drive(Endpoints(2), Reach.ANY_NODE, [SILENT, SILENT])
