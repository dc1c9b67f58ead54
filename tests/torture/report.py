"""What a run did, in numbers: `report.json`."""

import json
from bisect import bisect_left, bisect_right
from collections import Counter

# Around a fault is also what follows so closely, seconds.
AFTERMATH = 3.0

LOST = ("lost", "gap in the log")
DOUBLED = ("duplicated",)


def spread(values):
    """A distribution in a few numbers."""
    values = sorted(values)
    if not values:
        return {}
    at = lambda share: round(values[min(len(values) - 1, int(len(values) * share))], 3)  # noqa: E731
    return {"n": len(values), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1)}


def fault_windows(events, begin, end):
    """(kind, from, to) of the faults of a round, in nanoseconds."""
    return [
        (event["kind"], event["begin"], event["t"])
        for event in events.of("healed", since=begin)
        if event["t"] <= end
    ]


def longest_gap(times, begin, end):
    """The longest time without an acknowledged write that touches this window, seconds. `times`:
    in order."""
    low = max(0, bisect_left(times, begin) - 1)
    high = min(len(times), bisect_right(times, end) + 1)
    near = times[low:high]
    return max((b - a for a, b in zip(near, near[1:], strict=False)), default=0) / 1e9


class Report:
    def __init__(self, settings):
        self.settings = settings
        self.faults = Counter()
        self.totals = Counter()
        self.by_workload, self.errors, self.dead_errors = Counter(), Counter(), Counter()
        self.gaps, self.stalls = {}, {}
        self.recoveries, self.convergences = [], []
        self.longest, self.longest_dead = (0.0, ""), (0.0, "")
        self.problems, self.notices = [], []
        self.memory, self.files = {}, {}
        self.rounds, self.seconds, self.finished = 0, 0.0, False
        # node -> second of the run -> acknowledged writes; (kind, from, to) in seconds of the run.
        self.throughput, self.bands = {}, []

    def add_round(self, tally, windows, origin):
        self.rounds += 1
        self.totals.update(
            acknowledged=tally.ok,
            refused=tally.fail,
            unknown=tally.unknown,
            reads=tally.reads,
            barriers=tally.barriers,
            reads_from_dead_mounts=tally.dead_reads,
        )
        self.dead_errors.update(tally.dead_errors)
        self.by_workload.update(tally.by_workload)
        self.errors.update(tally.errors)
        times = sorted(time for each in tally.acknowledged.values() for time in each)
        for kind, begin, end in windows:
            self.faults[kind] += 1
            gap = longest_gap(times, begin, end + int(AFTERMATH * 1e9))
            self.gaps.setdefault(kind, []).append(gap)
            waits = (e - b for b, e, _ in tally.slow if e >= begin and b <= end)
            self.stalls.setdefault(kind, []).append(max(waits, default=0) / 1e9)
            self.bands.append((kind, (begin - origin) / 1e9, (end - origin) / 1e9))
        for node, each in tally.acknowledged.items():
            seconds = self.throughput.setdefault(node, Counter())
            seconds.update((time - origin) // 10**9 for time in each)

    def see_memory(self, node, resident, files):
        self.memory[node] = max(self.memory.get(node, 0), resident)
        self.files[node] = max(self.files.get(node, 0), files)

    def count(self, kinds):
        return sum(1 for problem in self.problems if problem["kind"] in kinds)

    def document(self):
        return {
            **self.settings,
            "rounds": self.rounds,
            "seconds_of_run": round(self.seconds, 1),
            "faults": dict(self.faults.most_common()),
            "faults_total": self.faults.total(),
            "transactions": dict(self.totals),
            "acknowledged_by_workload": dict(self.by_workload),
            "lost": self.count(LOST),
            "duplicated": self.count(DOUBLED),
            "problems": self.problems,
            "notices": self.notices,
            "errors_told_to_clients": dict(self.errors.most_common(40)),
            "errors_told_by_dead_mounts": dict(self.dead_errors.most_common(40)),
            "longest_wait_of_a_client": self.longest,
            "longest_wait_on_a_dead_mount": self.longest_dead,
            "seconds_without_an_acknowledged_write": {k: spread(v) for k, v in self.gaps.items()},
            "longest_stall_of_a_client_by_fault": {k: spread(v) for k, v in self.stalls.items()},
            "raw": {
                "gaps": {k: [round(x, 3) for x in v] for k, v in self.gaps.items()},
                "stalls": {k: [round(x, 3) for x in v] for k, v in self.stalls.items()},
                "converged": [round(x, 3) for x in self.convergences],
            },
            "finished": self.finished,
            "seconds_until_ready": spread(self.recoveries),
            "seconds_until_converged": spread(self.convergences),
            "most_memory": self.memory,
            "most_open_files": self.files,
        }

    def write(self, path):
        path.write_text(json.dumps(self.document(), indent=1) + "\n")


def table(gaps, stalls):
    """For people, in Markdown: by kind of fault, how often, and the seconds without an acknowledged
    write and of the longest stall."""
    lines = [
        "| fault | times | gap p50 | p90 | max | stall p50 | p90 | max |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in sorted(gaps, key=lambda kind: -len(gaps[kind])):
        cells = [
            spread(values[kind])[at] for values in (gaps, stalls) for at in ("p50", "p90", "max")
        ]
        shown = " | ".join(f"{cell:.2f}" for cell in cells)
        lines.append(f"| {kind} | {len(gaps[kind])} | {shown} |")
    return "\n".join(lines)
