"""How often a small transaction, and a read by key, needs the kernel, the disk, and the other nodes,
beside the least that it could be. `perf stat` counts: for each node's process, and for the client's,
whose requests to the mount are counted where they are sent."""

import json
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack

from common import WORK, Skipped
from devcluster import die_with_parent, end_process, wait_for
from table import Reach

REQUESTS, SENT, SLEEPS = "fuse:fuse_request_send", "sock:sock_send_length", "context-switches"
SYNCS = ["syscalls:sys_enter_fdatasync", "syscalls:sys_enter_fsync"]
FILES = [f"syscalls:sys_enter_{call}" for call in ("pread64", "pwrite64", "statx")]
OF_NODE = [SENT, SLEEPS, *SYNCS, *FILES]

# perf wants tracefs; where it is not mounted, it is for perf alone.
PERF = ["unshare", "-m", "sh", "-c",
        "mount -t tracefs nodev /sys/kernel/tracing 2>/dev/null; exec perf stat -x, \"$@\"", "perf"]  # fmt: skip


def least(number):
    """Checkpoints, heartbeats and a new page now and then come on top: a tenth is left to them."""
    return Reach(most=number, about=0.1)


def counts(bench):
    if shutil.which("perf") is None:
        raise Skipped("there is no perf to count with")
    leader, (follower, other) = bench.cluster.leader(), bench.cluster.followers()
    small = "for a small transaction"
    # One page, by stock SQLite, in WAL mode: the locks of reading and of writing are taken and given
    # back, a frame's header and its page are written.
    requests, told = counted(bench, "transactions", leader)
    bench.note(f"requests to the mount {small}", "", [requests], reach=least(6))
    each = [sum(counts[event] for event in SYNCS) for counts in told.values()]
    bench.note(f"syncs {small}, of each node", "", each, reach=least(1))
    # To each of the others; and each of them answers.
    bench.note(f"messages {small}, from the leader", "", [told[leader][SENT]], reach=least(2))
    answers = [told[node][SENT] for node in (follower, other)]
    bench.note(f"messages {small}, from a follower", "", answers, reach=least(1))
    for what, events in (("calls for files", FILES), ("threads woken", [SLEEPS])):
        bench.note(f"{what} {small}, on the leader", "", [total(told[leader], events)])
        bench.note(f"{what} {small}, on a follower", "", [total(told[follower], events)])
    requests, told = counted(bench, "transactions", follower)
    small += " written on a follower"
    bench.note(f"requests to the mount {small}", "", [requests], reach=least(6))
    # The proposal and its answer besides.
    sent = sum(counts[SENT] for counts in told.values())
    bench.note(f"messages {small}, of all", "", [sent], reach=least(6))
    bench.note(f"threads woken {small}, there", "", [told[follower][SLEEPS]])
    requests, told = counted(bench, "keyed", follower)
    bench.note("requests to the mount for a read by key", "", [requests], reach=least(2))
    bench.note("threads woken for a read by key", "", [told[follower][SLEEPS]])


def total(counts, events):
    return sum(counts[event] for event in events)


def counted(bench, kind, node):
    """The client's requests to the mount, and what each node did; for each thing that was done."""
    database, seconds = node.db("bench.db"), 3 if bench.options.quick else 10
    nodes = bench.cluster.nodes
    files = {one: bench.folder / f"counts-{one}" for one in nodes}
    of_client = bench.folder / "counts-client"
    with ExitStack() as stack:
        for one in nodes:
            stack.enter_context(
                counting("-p", str(one.pid), "-o", files[one], "-e", ",".join(OF_NODE))
            )
        done = subprocess.run(
            [*PERF, "-o", of_client, "-e", REQUESTS, sys.executable, WORK, kind, database, str(seconds)],
            capture_output=True, text=True, check=False, timeout=seconds + 60,
        )  # fmt: skip
    if done.returncode:
        raise Skipped(f"perf cannot count here: {done.stderr.strip()[-200:]}")
    times = json.loads(done.stdout)
    told = {one: read(file, times) for one, file in files.items()}
    return read(of_client, times)[REQUESTS], told


def counting(*arguments):
    """perf beside a node, until the end of the block."""
    stack = ExitStack()
    process = subprocess.Popen(
        [*PERF, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )  # fmt: skip
    stack.callback(end_process, process)
    stack.callback(process.send_signal, signal.SIGINT)
    return stack


def read(file, times):
    """Events, each for one of `times`."""
    wait_for(lambda: file.exists() and file.stat().st_size, 10, f"{file.name}, by perf")
    lines = [line.split(",") for line in file.read_text().splitlines() if "," in line]
    counts = {fields[2]: fields[0] for fields in lines}
    if not all(count.isdigit() for count in counts.values()):
        raise Skipped(f"perf cannot count here: {counts}")
    return {event: int(count) / times for event, count in counts.items()}
