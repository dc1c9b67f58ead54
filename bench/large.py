"""Gigabytes: the most memory that they take, a node that joins with them, a start with them."""

import os
import shutil
import signal
import time
from pathlib import Path

from common import DB, work
from devcluster import LOG_SCHEMA, Writer, wait_for
from machines import Machine, taken_down, token
from table import Reach

# Long enough for any of it on a slow disk.
LONG = 3600


def gigabytes(size):
    return f"{size / 1e9:g} GB"


def large(bench):
    """500 MB at a time into a database of 2 GB: a transaction is never in memory as a whole."""
    at_once = 100e6 if bench.options.quick else 500e6
    bench.needs(4 * at_once * 8)
    cluster = bench.fresh_cluster()
    for node in cluster.nodes:
        Path(f"/proc/{node.pid}/clear_refs").write_text("5")
    work("fill", cluster.leader().db(DB), 4 * at_once, at_once, deadline=LONG)
    cluster.settle(DB, 300)
    most = [node.most_resident() / 1e6 for node in cluster.nodes]
    what = f"{at_once / 1e6:.0f} MB at a time into {gigabytes(4 * at_once)}"
    bench.note(f"most memory of a node, {what}", "MB", most, reach=Reach(worst=200))
    bench.put_away()


def joining(bench):
    """Nodes that join by token with a large database, into which a client goes on writing: the
    second, the third, the fourth. All on this machine, hence one disk and these cores for all."""
    size = 200e6 if bench.options.quick else 5e9
    # While it comes in: the file, the upload, the transaction, the database. Later: four nodes that
    # have it, one of them twice while it takes it in, and what the log still names.
    bench.needs(7 * size)
    bench.put_away()
    folder = bench.folder / "joining"
    folder.mkdir()
    source = folder / "source.db"
    made = []
    with taken_down(made):
        first = Machine(folder, "n1", bench.options.program)
        made.append(first)
        first.init().start()
        work("fill", source, size, 250e6, "unsafe", deadline=LONG)
        first.cli("import", source, DB, "--config", first.config, check=True, deadline=LONG)
        source.unlink()
        first.sql(DB, *LOG_SCHEMA)
        told = [joined(bench, first, name, made) for name in ("n2", "n3", "n4")]
    shutil.rmtree(folder, ignore_errors=True)
    speeds, before, during, longest = zip(*told, strict=True)
    what = f"joining with {gigabytes(size)}"
    bench.note(f"{what}: taken in", "MB/s", [size / 1e6 / seconds for seconds in speeds])
    bench.note(f"{what}: small transactions meanwhile", "/s", during, before, beside="before")
    bench.note(f"{what}: the longest of these", "ms", [1000 * gap for gap in longest])


def joined(bench, first, name, made):
    """Seconds until a new node has it all and is ready, its writer's rate before and meanwhile, and
    the longest that a write took meanwhile."""
    seconds = 2 if bench.options.quick else 10
    writer = Writer(first.db(DB), name, first.folder / f"writer-{name}", timeout=20)
    node = Machine(first.folder.parent, name, bench.options.program)
    made.append(node)
    try:
        wait_for(writer.acknowledged, 30, "a first row")
        node.join(token(first), first, check=True)
        calm = time.time()
        wait_for(lambda: time.time() > calm + seconds, seconds + 5, "some seconds of writing")
        start = time.time()
        node.start(ready=False)
        wait_for(lambda: in_step(first, node), LONG, f"{name} to have it all")
        end = time.time()
        # What is answered after it shows how long the last one took.
        wait_for(lambda: writer.after(end), 60, "writes after it")
    finally:
        writer.stop()
    times = [when for what, _, when, _ in writer.lines() if what == "+"]
    before = sum(calm < when <= start for when in times) / (start - calm)
    during = sum(start < when <= end for when in times) / (end - start)
    gap = max(b - a for a, b in zip(times, times[1:], strict=False) if b > start and a < end)
    wait_for(lambda: first.members().get(name) == "voter", 60, f"{name} to vote")
    return end - start, before, during, gap


def in_step(first, node):
    """The new node is ready, and has what the first had a moment ago."""
    assert node.process.poll() is None, f"{node} ended: {node.log()[-2000:]}"
    if not node.is_ready():
        return False
    had, has = first.position(DB), node.position(DB)
    return had is not None and has is not None and has.split("/")[0] >= had.split("/")[0]


def twenty(bench):
    """A database of 20 GB on one node: how it starts, and the memory it takes. What the kernel has of
    the files is dropped before each start, as after a start of the machine."""
    size, at_once = (500e6, 100e6) if bench.options.quick else (20e9, 250e6)
    bench.needs(size + 8 * at_once)
    bench.put_away()
    folder = bench.folder / "twenty"
    folder.mkdir()
    made = []
    with taken_down(made):
        node = Machine(folder, "n1", bench.options.program)
        made.append(node)
        node.init().start()
        work("fill", node.db(DB), size, at_once, deadline=LONG)
        most = node.most_resident()
        ordered = started(node, signal.SIGTERM)
        idle = node.resident()
        killed = started(node, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
    what = f"one node with {gigabytes(size)}"
    bench.note(f"{what}: a start after an orderly stop", "s", [ordered])
    bench.note(f"{what}: a start after SIGKILL", "s", [killed])
    bench.note(f"{what}: memory after a start", "MB", [idle / 1e6])
    bench.note(f"{what}: most memory while it was filled", "MB", [most / 1e6])


def started(node, how):
    """Stops it, and answers how long a start takes until it serves."""
    node.stop(how)
    for path in node.data.rglob("*"):
        if path.is_file():
            forget(path)
    start = time.monotonic()
    node.start(ready=False)
    wait_for(node.serves, LONG, f"{node} to serve")
    return time.monotonic() - start


def forget(path):
    """The kernel drops what it has of a file's pages, once they are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)
