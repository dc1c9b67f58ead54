"""Faults of the members: nodes come and go while everybody writes.

The cluster is whole again when one returns: the same names, all of them voters."""

import time

from disk_faults import wipe
from faults import fault, some_node
from operators import Operator


def bother(world, rng, node):
    """Something dies while a node catches up: the leader, the node itself, or nobody."""
    victim, after = rng.choice([None, None, "leader", "itself"]), rng.uniform(0, 0.6)
    world.note(killed=victim)
    time.sleep(after)
    if victim == "leader":
        world.daemons.kill(world.daemons.leader() or world.daemons.nodes[0])
    elif victim == "itself":
        world.daemons.kill(node)


def come_back(world, rng, operator, node):
    """A node that is no member any more joins, under its old name and with a new number."""
    operator.join(node)
    world.daemons.is_back(node)
    bother(world, rng, node)
    operator.wait_role(node, "voter", "leader")


@fault("guest", 1, newer=True)
def guest(world, rng):
    """A node joins, as a voter or as a learner; applications write there, too; it becomes the other, or
    not; and it is removed, alive or dead."""
    learner, changes, dead = rng.random() < 0.5, rng.randint(0, 2), rng.random() < 0.3
    node, operator = world.daemons.guest, Operator(world.daemons)
    world.note(learner=learner, changes=changes, dead=dead)
    operator.join(node, learner)
    world.daemons.is_back(node)
    specs = [{"workload": kind, "burst": 20, "pause": 0.04} for kind in ("bank", "lists")]
    visitors = world.applications.come([(node, spec) for spec in specs])
    bother(world, rng, node)
    operator.wait_role(node, *(["learner"] if learner else ["voter", "leader"]))
    for _ in range(changes):
        time.sleep(rng.uniform(0, 1))
        (operator.promote if learner else operator.demote)(node)
        learner = not learner
        operator.wait_role(node, *(["learner"] if learner else ["voter", "leader"]))
    time.sleep(rng.uniform(0, 1))
    leave(world, operator, node, dead)
    world.applications.go(visitors)
    wipe(node)


@fault("demoted", 0.7, newer=True)
def demoted(world, rng):
    """A voter is a learner for a while: its mount is read-only, beneath those who write there."""
    node, seconds = some_node(world, rng), rng.choice([0, 0.5, 2.0])
    operator = Operator(world.daemons)
    operator.demote(node)
    time.sleep(seconds)
    operator.promote(node)
    operator.wait_role(node, "voter", "leader")


@fault("removed", 1, newer=True)
def removed(world, rng):
    """A member is removed, alive or dead, and comes back by a token."""
    node, dead, seconds = some_node(world, rng), rng.random() < 0.4, rng.choice([0, 0.5, 2.0])
    operator = Operator(world.daemons)
    world.note(dead=dead)
    leave(world, operator, node, dead)
    time.sleep(seconds)
    come_back(world, rng, operator, node)


def leave(world, operator, node, dead):
    """A dead one finds out when it is started again."""
    if dead:
        world.daemons.kill(node, hold=True)
    world.daemons.is_to_leave(node)
    operator.remove(node)
    if dead:
        world.daemons.release(node)
    operator.wait_gone(node)


@fault("wiped", 1)
def wiped(world, rng):
    """All that a node had is gone. It is just started again, and asks the others how they stand; or it is
    removed, and joins as a new one: it has to where its configuration is older than the members."""
    node, seconds, anew = some_node(world, rng), rng.choice([0, 0.5, 2.0]), rng.random() < 0.5
    operator = Operator(world.daemons)
    if world.daemons.settings["newer"]:
        anew = anew or not operator.knows_the_others(node)
    else:
        anew = False
    world.note(anew=anew)
    world.daemons.kill(node, hold=True)
    world.daemons.wait_dead(node)
    wipe(node)
    time.sleep(seconds)
    if anew:
        operator.remove(node)
        come_back(world, rng, operator, node)
    else:
        world.daemons.release(node)
        bother(world, rng, node)
