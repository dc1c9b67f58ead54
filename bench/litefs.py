"""The other engine beside bare LiteFS: the same LiteFS, with the same settings, once under this daemon and once
under a Consul of a few lines of Python. Never both at once: each round starts the one, measures it, stops it,
and then the other, and what is compared are the two of a round."""

import operator
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from common import ROOT, Skipped, work
from devcluster import wait_for
from table import Reach

sys.path.insert(0, str(ROOT / "tests" / "litefs"))

from bare import Bare, Consul  # noqa: E402
from litefs_cluster import LitefsCluster, find_litefs  # noqa: E402

# What it may cost.
REACH, SLOWER = Reach(ratio=0.97), Reach(most=1.03)
# Transactions a second where the processors are not to be what is short.
PACE = 40
WAL, ROLLBACK = "wal.db", "rollback.db"


class Ours:
    name = "ours"

    def __init__(self, folder, binary, nodes, program):
        self.cluster = LitefsCluster(folder / "ours", binary, nodes=nodes, program=program)
        self.cluster.folder.parent.mkdir(parents=True, exist_ok=True)

    def start(self):
        """The mounts, the primary's first."""
        self.cluster.start()
        leader = self.cluster.leader()
        others = [node for node in self.cluster.nodes if node is not leader]
        wait_for(lambda: all(n.is_ready() for n in self.cluster.nodes), 30, "all nodes ready")
        return [node.mount for node in (leader, *others)]

    def stop(self):
        self.cluster.stop()

    def clear(self):
        self.cluster.clear()

    def spent(self):
        """Processor time so far, seconds: (of the daemons and their guards, of their LiteFS)."""
        nodes = self.cluster.nodes
        ours = [pid for node in nodes for pid in (node.pid, node.guard_pid())]
        return sum(map(spent_by, ours)), sum(spent_by(node.litefs_pid()) for node in nodes)


def spent_by(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Alone:
    name = "bare"

    def __init__(self, folder, binary, nodes, _program):
        self.consul = Consul()
        names = [f"n{number}" for number in range(1, nodes + 1)]
        self.nodes = [
            Bare(binary, folder / "bare" / name, self.consul, name, "3s") for name in names
        ]

    def start(self):
        for node in self.nodes:
            node.start()
            self.nodes[0].primary()
        for node in self.nodes[1:]:
            wait_for((node.mount / ".primary").exists, 20, f"{node.name} to be attached")
        return [node.mount for node in self.nodes]

    def stop(self):
        for node in reversed(self.nodes):
            node.stop()

    def clear(self):
        self.stop()
        self.consul.close()


@contextmanager
def running(one):
    try:
        yield one.start()
    finally:
        one.stop()


def measure(mounts, seconds, count):
    """{what: figure} of one that runs; made ready by a little work that does not count."""
    primary = mounts[0]
    found = {}
    for journal, database in (("WAL", WAL), ("rollback journal", ROLLBACK)):
        work("writes", primary / database, 0.5, "FULL")
        found[f"small transactions, {journal}"] = work(
            "writes", primary / database, seconds, "FULL"
        )
        times = work("paced", primary / database, seconds, 1 / PACE)
        found[f"a transaction of {PACE} a second, {journal}"] = 1000 * median(times)
    place = primary if len(mounts) == 1 else mounts[1]
    where = "the primary" if len(mounts) == 1 else "a replica"
    wait_for((place / WAL).exists, 20, "the database there")
    found[f"reads by key, on {where}"] = work("reads", place / WAL, min(seconds, 2), "each")
    if len(mounts) > 1:
        times = work("lag", primary / WAL, place / WAL, count)
        found["from COMMIT to a reader on a replica"] = 1000 * median(times)
    return found


def litefs(bench):
    binary, why = find_litefs()
    if binary is None:
        raise Skipped(why)
    bench.put_away()
    for nodes in (1, 3):
        beside(bench, binary, nodes)


def beside(bench, binary, nodes):
    folder = bench.folder / f"litefs-{nodes}"
    both = [kind(folder, binary, nodes, bench.options.program) for kind in (Ours, Alone)]
    found, shares = {one.name: [] for one in both}, []
    try:
        for one in both:
            with running(one) as mounts:
                work("prepare", mounts[0] / WAL)
                work("prepare", mounts[0] / ROLLBACK, "delete")
        for number in range(2 * bench.options.runs):
            # Who is first takes turns too.
            for one in both if number % 2 else reversed(both):
                with running(one) as mounts:
                    count = 30 if bench.options.quick else 200
                    before = one.spent() if one is both[0] else None
                    found[one.name].append(measure(mounts, bench.options.seconds, count))
                    if before:
                        daemons, its = map(operator.sub, one.spent(), before)
                        shares.append(daemons / its)
    finally:
        for one in both:
            one.clear()
    of = "alone" if nodes == 1 else f"of {nodes} nodes"
    for what in found["ours"][0]:
        ours, bare = ([each[what] for each in found[name]] for name in ("ours", "bare"))
        rate = what.startswith(("small", "reads"))
        bench.note(
            f"LiteFS {of}: {what}", "/s" if rate else "ms", ours, bare,
            REACH if rate else None, "bare LiteFS",
        )  # fmt: skip
        pairs = [mine / its for mine, its in zip(ours, bare, strict=True)]
        reach = SLOWER if what.startswith("a transaction") else None
        bench.note(f"LiteFS {of}: {what}, round by round", "of bare", pairs, reach=reach)
    bench.note(f"LiteFS {of}: processor time of the daemons meanwhile", "of LiteFS's", shares)
