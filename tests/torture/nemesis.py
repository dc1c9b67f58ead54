"""Picks faults by a seed, one after another, and lets the cluster recover now and then in between."""

import random
import time

from faults import FAULTS

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
    return rng.choices(names, [FAULTS[name][1] for name in names])[0]


def torment(world, seed, seconds, names, stopping):
    """Faults for so many seconds. The same seed picks the same faults in the same order."""
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stopping():
        name = choose(names, rng)
        own = random.Random(rng.getrandbits(64))
        rest, patient = rng.uniform(0.3, 1.5), rng.random() < 0.7
        world.facts = {}
        begin = world.events.add("fault", kind=name)
        FAULTS[name][0](world, own)
        world.events.add("healed", kind=name, begin=begin["t"], facts=world.facts)
        if patient:
            recover(world, name)
        time.sleep(rest)
    world.daemons.heal()
    for application in world.applications.list:
        world.applications.resume(application)


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
