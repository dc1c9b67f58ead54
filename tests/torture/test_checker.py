"""The checker finds what is wrong in histories made by hand, and nothing in good ones."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from checker import lists, logs  # noqa: E402
from checker.graph import components, shortest_cycle  # noqa: E402
from checker.models import BankModel, CounterModel, OrdersModel, RegisterModel  # noqa: E402
from checker.operations import Lives, Operation, RunningMaximum, read_history  # noqa: E402

# One life of each node.
LIVES = Lives({"n1": [0], "n2": [0]})


def kinds(anomalies):
    return sorted({anomaly.kind for anomaly in anomalies})


# Lists


def txn(wid, begin, end, *steps, status="ok", node="n1", barrier=None, opened=(1, 1)):
    """Steps: ("a", list, element), or ("r", list, what was read)."""
    reads = [",".join(map(str, step[2])) for step in steps if step[0] == "r"]
    asked = [list(step) if step[0] == "a" else list(step[:2]) for step in steps]
    f = "txn" if any(step[0] == "a" for step in steps) else "read"
    op = {"n": begin, "f": f, "steps": asked}
    value = {"r": reads} if status == "ok" else None
    return Operation(wid, node, op, begin, end, status, value, "", barrier, opened)


def check_lists(final, *operations, lives=LIVES):
    return kinds(lists.check(list(operations), final, lives))


GOOD = (
    txn(1, 10, 20, ("a", 1, 11), ("r", 1, [11])),
    txn(2, 15, 40, ("a", 1, 12), ("a", 2, 21), node="n2"),
    txn(3, 16, 30, ("r", 1, [11]), ("r", 2, [])),
    txn(3, 50, 60, ("r", 1, [11, 12]), ("r", 2, [21]), node="n2"),
    txn(4, 70, 80, ("a", 1, 13), status="unknown"),
    txn(4, 90, 95, ("a", 1, 14), status="fail"),
    txn(5, 91, 99, ("r", 1, [11, 12, 13])),
)
GOOD_END = {1: [11, 12, 13], 2: [21]}


def test_a_good_history_of_lists_passes():
    assert check_lists(GOOD_END, *GOOD) == []


def test_an_old_read_on_another_node_passes():
    """Reads are local and may be old."""
    late = txn(9, 200, 210, ("r", 1, []), ("r", 2, []), node="n2")
    assert check_lists({1: [11]}, txn(1, 10, 20, ("a", 1, 11)), late) == []


@pytest.mark.parametrize(
    ("wrong", "final", "found"),
    [
        # Acknowledged and not there.
        ([txn(1, 10, 20, ("a", 1, 11))], {}, "lost"),
        # Half of a transaction, acknowledged or not.
        ([txn(1, 10, 20, ("a", 1, 11), ("a", 2, 12))], {1: [11]}, "lost"),
        (
            [txn(1, 10, 20, ("a", 1, 11), ("a", 2, 12), status="unknown")],
            {1: [11]},
            "half a transaction",
        ),
        ([txn(1, 10, 20, ("a", 1, 11))], {1: [11, 11]}, "duplicated"),
        ([txn(1, 10, 20, ("a", 1, 11))], {1: [11, 99]}, "from nowhere"),
        ([txn(1, 10, 20, ("a", 1, 11), status="fail")], {1: [11]}, "refused but there"),
        # G1a: a refused append was seen.
        (
            [txn(1, 10, 20, ("a", 1, 11), status="fail"), txn(2, 15, 18, ("r", 1, [11]))],
            {},
            "G1a",
        ),
        # It was seen, then it was gone.
        (
            [txn(1, 10, 20, ("a", 1, 11), status="unknown"), txn(2, 15, 18, ("r", 1, [11]))],
            {},
            "dirty read",
        ),
        # G1b: seen between two appends of one transaction.
        (
            [
                txn(1, 10, 20, ("a", 1, 11), ("a", 1, 12)),
                txn(2, 15, 18, ("r", 1, [11]), node="n2"),
            ],
            {1: [11, 12]},
            "G1b",
        ),
        (
            [
                txn(1, 10, 20, ("a", 1, 11)),
                txn(2, 10, 20, ("a", 1, 12)),
                txn(3, 30, 31, ("r", 1, [12]), node="n2"),
            ],
            {1: [11, 12]},
            "incompatible order",
        ),
        ([txn(1, 10, 20, ("a", 1, 11), ("r", 1, []))], {1: [11]}, "internal"),
    ],
)
def test_wrong_lists_are_found(wrong, final, found):
    assert found in check_lists(final, *wrong)


@pytest.mark.parametrize(
    ("operations", "final", "found"),
    [
        # ww both ways: two lists disagree on who came first.
        (
            [
                txn(1, 10, 50, ("a", 1, 11), ("a", 2, 12)),
                txn(2, 10, 50, ("a", 1, 21), ("a", 2, 22), node="n2"),
            ],
            {1: [11, 21], 2: [22, 12]},
            "G0",
        ),
        # Each read what the other appended.
        (
            [
                txn(1, 10, 50, ("a", 1, 11), ("r", 2, [22])),
                txn(2, 10, 50, ("a", 2, 22), ("r", 1, [11]), node="n2"),
            ],
            {1: [11], 2: [22]},
            "G1c",
        ),
        # A torn snapshot: it saw one half of a transaction and not the other.
        (
            [
                txn(1, 10, 50, ("a", 1, 11), ("a", 2, 12)),
                txn(2, 10, 50, ("r", 1, [11]), ("r", 2, []), node="n2"),
            ],
            {1: [11], 2: [12]},
            "G-single",
        ),
        # Write skew.
        (
            [
                txn(1, 10, 50, ("a", 1, 11), ("r", 2, [])),
                txn(2, 10, 50, ("a", 2, 22), ("r", 1, []), node="n2"),
            ],
            {1: [11], 2: [22]},
            "G2",
        ),
        # Two writers after each other, in the other order.
        (
            [txn(1, 10, 20, ("a", 1, 11)), txn(2, 30, 40, ("a", 1, 12), node="n2")],
            {1: [12, 11]},
            "G0-realtime",
        ),
        # A writer that did not see what was acknowledged before it began: an update was lost.
        (
            [
                txn(1, 10, 20, ("a", 1, 11)),
                txn(2, 30, 40, ("r", 1, []), ("a", 2, 22), node="n2"),
            ],
            {1: [11], 2: [22]},
            "G-single-realtime",
        ),
        # Back in time on one node.
        (
            [
                txn(1, 10, 20, ("a", 1, 11), node="n2"),
                txn(2, 30, 40, ("r", 1, [11])),
                txn(3, 50, 60, ("r", 1, [])),
            ],
            {1: [11]},
            "G-single-realtime",
        ),
        # Its own write, not seen on the same node.
        (
            [txn(1, 10, 20, ("a", 1, 11)), txn(2, 30, 40, ("r", 1, []))],
            {1: [11]},
            "G-single-realtime",
        ),
        # Old after a barrier.
        (
            [
                txn(1, 10, 20, ("a", 1, 11)),
                txn(2, 25, 40, ("r", 1, []), node="n2", barrier=30),
            ],
            {1: [11]},
            "G-single-realtime",
        ),
    ],
)
def test_cycles_are_found(operations, final, found):
    assert check_lists(final, *operations) == [found]


def test_a_node_may_forget_when_its_daemon_ends():
    """What is promised for one life of a daemon is not for the next."""
    lives = Lives({"n1": [0, 45]})
    before = txn(2, 30, 40, ("r", 1, [11]), opened=(1, 2))
    after = txn(3, 50, 60, ("r", 1, []), opened=(47, 48))
    write = txn(1, 10, 20, ("a", 1, 11), node="n2")
    assert check_lists({1: [11]}, write, before, after, lives=lives) == []
    again = txn(4, 70, 80, ("r", 1, []), opened=(1, 2))
    assert check_lists({1: [11]}, write, before, again, lives=lives) == ["G-single-realtime"]


def test_what_was_acknowledged_before_a_barrier_began_is_what_counts():
    late = txn(2, 25, 40, ("r", 1, []), node="n2", barrier=15)
    assert check_lists({1: [11]}, txn(1, 10, 20, ("a", 1, 11)), late) == []


# Logs


def write(wid, n, begin, end, seq, status="ok", f="transfer", node="n1", **what):
    value = {"q": seq} if status == "ok" else None
    op = {"n": n, "f": f, **what}
    return Operation(wid, node, op, begin, end, status, value, "", None, (1, 1))


def read(wid, n, begin, end, seq, node="n1", barrier=None, f="read", **seen):
    op = {"n": n, "f": f}
    return Operation(wid, node, op, begin, end, "ok", {"q": seq, **seen}, "", barrier, (1, 1))


def counts(*numbers):
    return [*numbers, 0, 0, 0, 0][:4]


ROWS = [(1, 1, 1, 0, 1, None), (2, 2, 1, 0, 2, None)]
WRITES = (write(1, 1, 10, 20, 1, f="count"), write(2, 1, 30, 40, 2, f="count", node="n2"))


def check_counter(rows, *operations):
    return kinds(logs.check(list(operations), rows, CounterModel(), LIVES))


def test_a_good_log_passes():
    new = read(4, 1, 50, 60, 2, node="n2", v=counts(2), barrier=55)
    assert check_counter(ROWS[:1], WRITES[0], write(9, 1, 30, 35, None, status="fail")) == []
    assert check_counter(ROWS, *WRITES, new) == []
    elsewhere = read(3, 1, 50, 60, 0, node="n3", v=counts())
    assert check_counter(ROWS, *WRITES, elsewhere) == []


@pytest.mark.parametrize(
    ("rows", "more", "found"),
    [
        (ROWS[:1], [], "lost"),
        ([*ROWS, (3, 2, 1, 0, 3, None)], [], "duplicated"),
        ([*ROWS, (3, 9, 9, 0, 3, None)], [], "from nowhere"),
        ([ROWS[0], (3, 2, 1, 0, 2, None)], [], "gap in the log"),
        ([(1, 2, 1, 0, 1, None), (2, 1, 1, 0, 2, None)], [], "order against real time"),
        ([(1, 2, 1, 0, 1, None), (2, 1, 1, 0, 2, None)], [], "moved"),
        ([ROWS[0], (2, 2, 1, 0, 1, None)], [], "wrong row"),
        (
            [*ROWS, (3, 5, 1, 0, 3, None)],
            [write(5, 1, 50, 60, None, status="fail", f="count")],
            "refused but there",
        ),
        (ROWS, [read(3, 1, 50, 60, 2, v=counts(1))], "wrong state"),
        (ROWS, [read(3, 1, 50, 60, 3, v=counts(3))], "dirty read"),
        (ROWS, [read(3, 1, 22, 25, 2, v=counts(2))], "read from the future"),
        (ROWS, [read(3, 1, 50, 60, 0, v=counts())], "back in time on a node"),
        (
            ROWS,
            [read(3, 1, 50, 60, 1, node="n3", v=counts(1), barrier=55)],
            "stale after a barrier",
        ),
        (
            ROWS,
            [read(3, 1, 50, 90, 2, f="long", v=counts(2), changed={"q": 3})],
            "snapshot changed",
        ),
    ],
)
def test_wrong_logs_are_found(rows, more, found):
    assert found in check_counter(rows, *WRITES, *more)


def test_sums_updates_and_totals_are_played_back():
    bank = BankModel()
    assert bank.apply(0, 1, 5) is None
    assert bank.expected()["v"][:2] == [995, 1005]
    register = RegisterModel()
    assert register.apply(0, 0, 7) is None
    assert "lost update" in register.apply(0, 0, 8)
    orders = OrdersModel()
    orders.apply(2, 50, 3)
    orders.apply(2, -20, -1)
    assert orders.expected()["v"][2] == [2, 30]
    assert orders.expected()["counted"][2] == [2, 30]


def test_money_that_is_lost_is_found():
    rows = [(1, 1, 1, 0, 1, 5)]
    good = [995, 1005, *[1000] * 6]
    for seen, expected in ((good, []), ([995, 1000, *[1000] * 6], ["wrong state"])):
        operations = [write(1, 1, 10, 20, 1), read(2, 1, 30, 40, 1, v=seen)]
        assert kinds(logs.check(operations, rows, BankModel(), LIVES)) == expected


# Below


def test_components_are_those_of_the_graph():
    edges = [[1], [2], [0, 3], [4], [], [5], [7], [6]]
    assert sorted(map(sorted, components(8, edges))) == [[0, 1, 2], [6, 7]]
    assert sorted(shortest_cycle([0, 1, 2], edges)) == [0, 1, 2]
    long = 100_000
    ring = [[(v + 1) % long] for v in range(long)]
    assert len(components(long, ring)) == 1


def test_running_maximum():
    top = RunningMaximum([(10, 1), (30, 5), (20, 7)])
    assert top.before(10) is None
    assert top.before(11) == (1,)
    assert top.before(31) == (7,)


def test_a_history_is_read_as_it_was_left(tmp_path):
    """A client that was killed: no answer to its last operation, a line cut off."""
    path = tmp_path / "h.jsonl"
    lines = [
        {"i": {"n": 1, "f": "count"}, "t": 5},
        {"o": 6, "t": 7},
        {"s": "ok", "t": 9, "v": {"q": 1}},
        {"i": {"n": 2, "f": "count"}, "t": 10},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"s": "o')
    first, second = read_history(path, 3, "n1")
    assert (first.status, first.end, first.opened, first.n) == ("ok", 9, (6, 7), 1)
    assert (second.status, second.end, second.value) == ("unknown", None, None)


def test_whose_mount_is_dead():
    lives = Lives({"n1": [0, 50]}, {"n1": [40]})
    living = txn(1, 60, 70, ("r", 1, []), opened=(55, 56))
    dead = txn(1, 60, 70, ("r", 1, []), opened=(10, 11))
    between = txn(1, 60, 70, ("r", 1, []), opened=(45, 56))
    assert lives.of(living) == ("n1", 2) and not lives.outlived(living)
    assert lives.of(dead) == ("n1", 1) and lives.outlived(dead)
    assert lives.of(between) is None
    leaving = txn(1, 44, 46, ("r", 1, []), opened=(42, 43))
    assert lives.outlived(leaving)
    # Also when the next daemon is there soon after.
    restarted = Lives({"n1": [10, 50]}, {"n1": [40]})
    assert restarted.outlived(txn(1, 44, 46, ("r", 1, []), opened=(42, 43)), margin=10e-9)
