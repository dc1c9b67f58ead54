"""What a node takes: memory, processor, the program's size, bytes written to the disk."""

import subprocess
import time

from common import DB, ROOT, with_table, work
from disk import own_disk
from table import Reach


def resources(bench):
    """Idle, then under the load of one writer on the leader. On nodes just started, with a small
    database."""
    cluster = bench.fresh_cluster()
    database = cluster.leader().db(DB)
    with_table(database)
    nodes, seconds = cluster.nodes, max(3, bench.options.seconds)

    def used(during):
        before, start = [node.cpu() for node in nodes], time.monotonic()
        during()
        took = time.monotonic() - start
        cpu = [100 * (n.cpu() - b) / took for n, b in zip(nodes, before, strict=True)]
        return [node.resident() / 1e6 for node in nodes], cpu

    # Ten seconds at least: processor time is counted in hundredths of a second.
    idle_memory, idle_cpu = used(lambda: time.sleep(10 if bench.options.quick else 60))
    loaded_memory, loaded_cpu = used(lambda: work("writes", database, seconds, "FULL"))
    bench.note("memory of a node, idle", "MB", idle_memory, reach=Reach(worst=20))
    bench.note("memory of a node, loaded", "MB", loaded_memory, reach=Reach(worst=40))
    bench.note("processor of a node, idle", "%", idle_cpu, reach=Reach(most=1))
    bench.note("processor of a node, loaded", "%", loaded_cpu)
    what, size = shipped(bench)
    bench.note(f"the program, {what}", "MB", [size / 1e6], reach=Reach(most=10))


def shipped(bench):
    """The program as `make dist` ships it; where that was not built the one at hand, stripped."""
    dist = ROOT / "target" / "dist" / "litefs-py"
    if dist.exists():
        return "as shipped", dist.stat().st_size
    stripped = bench.folder / "stripped"
    subprocess.run(["strip", "-o", stripped, bench.options.program], check=True)
    size = stripped.stat().st_size
    stripped.unlink()
    return f"{bench.options.program.parent.name} build, stripped (no `make dist`)", size


def amplification(bench):
    """Bytes that reach the disk for a small transaction, and those of its LTX. Long enough that
    checkpoints are among it, and without --quick purges of the log. All nodes have one disk, to
    themselves; a node's part is taken as what comes to each."""
    seconds = 10 if bench.options.quick else 120
    bench.needs(8e9)
    with own_disk(bench.folder, 8e9) as disk:
        plain = disk.path / "plain.db"
        with_table(plain)
        before = disk.written()
        done = work("transactions", plain, seconds)
        base = [(disk.written() - before) / done / 1000]
        cluster = bench.fresh_cluster(folder=disk.path / "dev")
        try:
            leader = cluster.leader()
            with_table(leader.db(DB))
            before, counted = disk.written(), counters(leader)
            done = work("transactions", leader.db(DB), seconds)
            each = (disk.written() - before) / done / len(cluster.nodes) / 1000
            ltx = [(now - then) for now, then in zip(counters(leader), counted, strict=True)]
        finally:
            bench.put_away()
    size = ltx[0] / ltx[1] / 1000
    what = "bytes to disk for a small transaction, each node"
    # Less than the peer that writes most: 58 KB for a row of that size.
    bench.note(what, "KB", [each], base, Reach(most=58), "FULL")
    bench.note("its LTX", "KB", [size])
    bench.note("bytes to disk for a byte of LTX, each node", "", [each / size])


def counters(node):
    """Bytes and number of the transactions committed on this node."""
    lines = node.ask("/metrics")[1].splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    committed = values['litefs_py_transactions_total{outcome="committed"}']
    return float(values["litefs_py_committed_bytes_total"]), float(committed)
