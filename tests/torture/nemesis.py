"""Picks faults by a seed, one after another, and lets the cluster recover now and then in between."""

import random
import time

import disk_faults  # noqa: F401
import member_faults  # noqa: F401
import version_faults  # noqa: F401
from faults import FAULTS
from operators import Failed

# Within so many seconds after a fault all nodes serve again, with a leader (converges).
RECOVERY = 20


class World:
    """What a fault may touch."""

    def __init__(self, daemons, applications, events):
        self.daemons, self.applications, self.events = daemons, applications, events
        self.network = daemons.network
        self.facts = {}
        self.left = []

    def note(self, **facts):
        self.facts.update(facts)

    def leave(self, processes):
        """Killed processes that may wait in the kernel for a while yet."""
        self.left = [each for each in self.left + processes if each.poll() is None]


def choose(names, rng):
    return rng.choices(names, [FAULTS[name].weight for name in names])[0]


def torment(world, seed, seconds, names, stopping):
    """Faults for so many seconds. The same seed picks the same faults in the same order. Answers whether
    all of them could be undone: if not, there is no going on."""
    rng = random.Random(seed)
    end, whole = time.monotonic() + seconds, True
    while whole and time.monotonic() < end and not stopping():
        name = choose(names, rng)
        own = random.Random(rng.getrandbits(64))
        rest, patient = rng.uniform(0.3, 1.5), rng.random() < 0.7
        whole = one_fault(world, name, own)
        if whole and patient:
            recover(world, name)
        time.sleep(rest)
    world.daemons.heal()
    for application in world.applications.list:
        world.applications.resume(application)
    return whole


def one_fault(world, name, rng):
    world.facts = {}
    begin = world.events.add("fault", kind=name)
    try:
        FAULTS[name].do(world, rng)
    except Failed as error:
        world.events.add("fault-failed", kind=name, facts=world.facts, why=str(error))
        return False
    finally:
        world.events.add("healed", kind=name, begin=begin["t"], facts=world.facts)
    return True


def recover(world, after):
    begin = time.monotonic()
    good = world.daemons.wait_ready(RECOVERY)
    seconds = time.monotonic() - begin
    if good:
        world.events.add("ready", after=after, seconds=round(seconds, 3))
        return
    states = {}
    for node in world.daemons.nodes:
        code, body = node.ask("/readiness")
        states[node.name] = [code, body, [line[:200] for line in node.log_end(5)]]
    world.events.add("not-ready", after=after, seconds=round(seconds, 3), states=states)
