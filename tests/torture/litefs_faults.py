"""Faults of nodes with `engine: litefs`, beside those of `faults.py` that mean something there.

`LOSING`: after them acknowledged rows may be missing, for LiteFS replicates after it has answered; after the
others none may.
"""

import shutil
import signal
import time

from faults import fault, some_node
from litefs_daemons import litefs_pid
from network import between

# Longer than a lease takes to run out, or not.
LONG = [0.4, 1.5, 4.0, 7.0]


@fault("kill-litefs", 2)
def kill_litefs(world, rng):
    """Its daemon lives, and starts it again; now and then it is killed while it starts."""
    node = some_node(world, rng)
    for _ in range(rng.choice([1, 1, 1, 3])):
        world.daemons.signal_litefs(node)
        time.sleep(rng.uniform(0.1, 0.6))


@fault("stop-litefs", 1.5)
def stop_litefs(world, rng):
    """SIGSTOP: its daemon kills it, if it lasts."""
    node, seconds = some_node(world, rng), rng.choice(LONG)
    pid = world.daemons.signal_litefs(node, signal.SIGSTOP)
    time.sleep(seconds)
    if pid is not None and litefs_pid(node) == pid:
        world.daemons.signal_litefs(node, signal.SIGCONT)


@fault("end-litefs", 0.5)
def end_litefs(world, rng):
    """SIGTERM past its daemon, beneath its applications."""
    world.daemons.signal_litefs(some_node(world, rng), signal.SIGTERM)
    time.sleep(rng.uniform(0.2, 1))


@fault("long-pause", 1)
def long_pause(world, rng):
    """The daemon stands still, while its LiteFS could go on: its guard has to end it."""
    node, seconds = some_node(world, rng), rng.choice(LONG)
    world.daemons.pause(node)
    time.sleep(seconds)
    world.daemons.resume(node)


@fault("primary-cut", 2)
def primary_cut(world, rng):
    """From both others."""
    node = world.daemons.leader() or world.daemons.nodes[0]
    world.note(node=node.name)
    others = [each.name for each in world.daemons.nodes if each is not node]
    world.network.cut(between([node.name], others))
    time.sleep(rng.choice(LONG))
    world.network.heal()


@fault("one-way-cut", 1.5)
def one_way_cut(world, rng):
    """What a node sends is lost, or what is sent to it."""
    node = some_node(world, rng).name
    others = [each.name for each in world.daemons.nodes if each.name != node]
    out = rng.random() < 0.5
    cuts = {(node, other) if out else (other, node) for other in others}
    world.note(cut=sorted(cuts))
    world.network.cut(cuts)
    time.sleep(rng.choice(LONG))
    world.network.heal()


@fault("wiped-litefs", 0.7)
def wiped_litefs(world, rng):
    """What LiteFS had on a node is gone, or all that the node had; not before the others have caught up."""
    node, everything = some_node(world, rng), rng.random() < 0.3
    world.note(everything=everything)
    # A cluster of which a second node is behind might have nothing left.
    if not world.daemons.wait_ready(20):
        world.note(left_out="the others are not ready")
        return
    world.daemons.kill(node, hold=True)
    world.daemons.wait_dead(node)
    end = time.monotonic() + 10
    while litefs_pid(node) is not None and time.monotonic() < end:
        time.sleep(0.01)
    # What was set aside is an operator's to remove.
    for path in node.data.iterdir():
        if path.name == "litefs" or (everything and path.name != "aside"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    world.daemons.wiped.append((node.name, time.monotonic_ns()))
    world.daemons.release(node)


# Of which nothing may be lost.
HARMLESS = ["switchovers", "end-daemon", "kill-application"]
LOSING = [
    "kill-litefs", "stop-litefs", "end-litefs", "long-pause", "primary-cut", "one-way-cut", "wiped-litefs",
    "kill-daemon", "stop-daemon", "stop-application", "halves", "flapping", "kill-in-partition", "restart-all",
    "stop-all", "lossy-network",
]  # fmt: skip
