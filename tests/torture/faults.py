"""The faults, but for those of disks, members and versions, which have files of their own. Each is a function of the world and random numbers; it returns when what it did is undone
(a killed daemon counts as undone when it may be started again).

`world`: `daemons`, `applications`, `network`, and `note`, which adds facts to the fault's event.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from network import between, inside

FAULTS = {}


@dataclass(frozen=True)
class Fault:
    """`weight`: how often it is picked, relative to the others. `newer`: it needs what an earlier version
    may not know (version_faults.py)."""

    do: Callable
    weight: float
    newer: bool = False


def fault(name, weight, newer=False):
    def add(function):
        FAULTS[name] = Fault(function, weight, newer)
        return function

    return add


def some_node(world, rng):
    """Any, but half of the time the leader: it matters most. Always takes as many random numbers."""
    node, leading = rng.choice(world.daemons.nodes), rng.random() < 0.5
    if leading:
        node = world.daemons.leader() or node
    world.note(node=node.name)
    return node


def some_application(world, rng):
    """One of the clients, by its place in the plan."""
    application = world.applications.list[rng.randrange(len(world.applications.list))]
    world.note(client=repr(application))
    return application


def split(world, rng):
    """(minority, majority), at random."""
    names = [node.name for node in world.daemons.nodes]
    rng.shuffle(names)
    return names[: len(names) // 2], names[len(names) // 2 :]


@fault("kill-daemon", 2)
def kill_daemon(world, rng):
    node, down = some_node(world, rng), rng.choice([0, 0.3, 1.5])
    world.daemons.kill(node, hold=True)
    time.sleep(down)
    world.daemons.release(node)


@fault("stop-daemon", 1.5)
def stop_daemon(world, rng):
    """SIGSTOP: it answers nobody, and its applications' requests wait in the kernel."""
    node, seconds = some_node(world, rng), rng.choice([0.1, 0.4, 1.0, 2.5])
    world.daemons.pause(node)
    time.sleep(seconds)
    world.daemons.resume(node)


@fault("end-daemon", 0.7)
def end_daemon(world, rng):
    """SIGTERM, as an administrator's restart does."""
    world.daemons.kill(some_node(world, rng), how=signal.SIGTERM)
    time.sleep(0.5)


@fault("kill-application", 1)
def kill_application(world, rng):
    for _ in range(rng.randint(1, 4)):
        world.applications.kill(some_application(world, rng))
        time.sleep(0.1)


@fault("stop-application", 0.7)
def stop_application(world, rng):
    """With luck while it holds a write lock: the others wait at their busy timeout."""
    stopped = [some_application(world, rng) for _ in range(rng.randint(1, 4))]
    for application in stopped:
        world.applications.pause(application)
    time.sleep(rng.choice([0.3, 1.0, 3.0]))
    for application in stopped:
        world.applications.resume(application)


@fault("halves", 1)
def halves(world, rng):
    ones, others = split(world, rng)
    world.note(cut=[ones, others])
    world.network.cut(between(ones, others))
    time.sleep(rng.choice([0.2, 1.0, 3.0]))
    world.network.heal()


@fault("bridge", 1)
def bridge(world, rng):
    """One node sees both sides, which do not see each other."""
    ones, others = split(world, rng)
    middle, others = others[0], others[1:]
    world.note(cut=[ones, others], bridge=middle)
    world.network.cut(between(ones, others))
    time.sleep(rng.choice([0.4, 1.5, 3.0]))
    world.network.heal()


@fault("one-way", 1)
def one_way(world, rng):
    """What one node sends is lost, or what is sent to it; on some ways or on all."""
    node = some_node(world, rng).name
    others = [each.name for each in world.daemons.nodes if each.name != node]
    others = rng.sample(others, rng.randint(1, len(others)))
    out = rng.random() < 0.5
    cuts = {(node, other) if out else (other, node) for other in others}
    world.note(cut=sorted(cuts))
    world.network.cut(cuts)
    time.sleep(rng.choice([0.4, 1.5, 3.0]))
    world.network.heal()


@fault("leader-alone", 1)
def leader_alone(world, rng):
    node = world.daemons.leader() or world.daemons.nodes[0]
    others = [each.name for each in world.daemons.nodes if each is not node]
    world.note(node=node.name)
    world.network.cut(between([node.name], others))
    time.sleep(rng.choice([0.5, 1.5, 3.0]))
    world.network.heal()


@fault("flapping", 1)
def flapping(world, rng):
    """A cut that comes and goes."""
    ones, others = split(world, rng)
    world.note(cut=[ones, others])
    for _ in range(rng.randint(3, 8)):
        world.network.cut(between(ones, others))
        time.sleep(rng.uniform(0.05, 0.5))
        world.network.heal()
        time.sleep(rng.uniform(0.02, 0.4))


@fault("kill-in-commit", 1.5)
def kill_in_commit(world, rng):
    """The followers stand still, so that COMMITs hang; then a client or the leader is killed in it."""
    leader = world.daemons.leader() or world.daemons.nodes[0]
    followers = [node for node in world.daemons.nodes if node is not leader]
    daemon = rng.random() < 0.5
    world.note(node=leader.name, killed="daemon" if daemon else "clients")
    for node in followers:
        world.daemons.pause(node)
    time.sleep(rng.uniform(0.05, 0.4))
    if daemon:
        world.daemons.kill(leader)
    else:
        for application in list(world.applications.list):
            if application.node is leader and rng.random() < 0.5:
                world.applications.kill(application)
    time.sleep(rng.uniform(0, 0.3))
    for node in followers:
        world.daemons.resume(node)


CHECKPOINTS = """
import sqlite3, sys, time
end = time.monotonic() + 3
while time.monotonic() < end:
    try:
        connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=rw", timeout=1, uri=True)
        connection.execute(f"PRAGMA wal_checkpoint({sys.argv[2]})").fetchall()
        connection.close()
    except sqlite3.Error:
        pass
"""


@fault("kill-in-checkpoint", 1)
def kill_in_checkpoint(world, rng):
    """Clients checkpoint without pause; then they, or their daemon, are killed."""
    node = some_node(world, rng)
    databases = ["bank.db", "counter.db", "orders.db", "lists.db"]
    mode, daemon = rng.choice(["TRUNCATE", "RESTART", "PASSIVE", "FULL"]), rng.random() < 0.6
    world.note(mode=mode, killed="daemon" if daemon else "client")
    clients = [
        subprocess.Popen([sys.executable, "-c", CHECKPOINTS, str(node.mount / name), mode])
        for name in rng.sample(databases, 2)
    ]
    time.sleep(rng.uniform(0.2, 0.6))
    if daemon:
        world.daemons.kill(node)
    for client in clients:
        client.kill()
    world.leave(clients)
    time.sleep(0.3)


@fault("switchovers", 1)
def switchovers(world, rng):
    """A storm: leadership is handed on again and again, by the program's own command."""
    for _ in range(rng.randint(2, 6)):
        node, to = rng.sample(world.daemons.nodes, 2)
        command = [*inside(node.name), str(world.daemons.program), "switchover"]
        command += ["--config", str(node.config)] + (
            ["--to", to.name] if rng.random() < 0.7 else []
        )
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            world.daemons.events.add("hung-switchover", node=node.name)
        time.sleep(rng.choice([0, 0, 0.1, 0.3]))


@fault("restart-all", 1)
def restart_all(world, rng):
    """All daemons are killed at once."""
    hold = rng.random() < 0.5
    for node in world.daemons.nodes:
        world.daemons.kill(node, hold=hold)
    if hold:
        time.sleep(rng.uniform(0, 1))
        for node in rng.sample(world.daemons.nodes, len(world.daemons.nodes)):
            world.daemons.release(node)
            time.sleep(rng.uniform(0, 0.3))


@fault("kill-in-partition", 1)
def kill_in_partition(world, rng):
    """A cut, and a node killed on either side of it."""
    ones, others = split(world, rng)
    node = world.daemons.node(rng.choice(ones + others))
    world.note(cut=[ones, others], node=node.name)
    world.network.cut(between(ones, others))
    time.sleep(rng.uniform(0.1, 1.0))
    world.daemons.kill(node)
    time.sleep(rng.uniform(0.1, 1.0))
    world.network.heal()


@fault("kill-in-recovery", 1)
def kill_in_recovery(world, rng):
    """Down for so long that it needs much, and killed again and again while it catches up."""
    node = some_node(world, rng)
    world.daemons.kill(node, hold=True)
    time.sleep(rng.choice([0.2, 1.0, 3.0]))
    for _ in range(rng.randint(1, 3)):
        world.daemons.release(node)
        time.sleep(rng.uniform(0.1, 1.2))
        world.daemons.kill(node)


@fault("stop-all", 0.7)
def stop_all(world, rng):
    """All daemons stand still, as a virtual machine's host does; they go on one by one."""
    for node in world.daemons.nodes:
        world.daemons.pause(node)
    time.sleep(rng.choice([0.3, 1.0, 2.0]))
    for node in rng.sample(world.daemons.nodes, len(world.daemons.nodes)):
        world.daemons.resume(node)
        time.sleep(rng.choice([0, 0, 0.2]))


@fault("lossy-network", 1)
def lossy_network(world, rng):
    """A quarter of the packets to one node, or to all, is lost: all is late, in bursts."""
    alone = rng.random() < 0.5
    names = [some_node(world, rng).name] if alone else [n.name for n in world.daemons.nodes]
    world.note(nodes=names)
    world.network.lose(names)
    time.sleep(rng.choice([1.0, 3.0]))
    world.network.lose([])
