"""Two versions in one cluster.

LITEFS_PY_EARLIER=/path/to/an/earlier/litefs-py    scripts/earlier.py builds it from history
"""

import os
import signal
import subprocess
import time
from pathlib import Path

from faults import FAULTS, fault, some_node

EARLIER = os.environ.get("LITEFS_PY_EARLIER")


def left_out():
    """The faults that this run cannot have, and why."""
    if not EARLIER:
        return {"other-version": "needs an earlier version: LITEFS_PY_EARLIER"}
    if knows_members():
        return {}
    why = "the earlier version does not know what this needs"
    return {name: why for name, each in FAULTS.items() if each.newer}


def knows_members():
    asked = subprocess.run([EARLIER, "member", "--help"], capture_output=True, timeout=30)
    return asked.returncode == 0


@fault("other-version", 2)
def other_version(world, rng):
    """A node is stopped, in order or not, and started by the other version; or all, one by one."""
    node, all_of_them = some_node(world, rng), rng.random() < 0.3
    how = rng.choice([signal.SIGTERM, signal.SIGTERM, signal.SIGKILL])
    program = Path(EARLIER) if node.program == world.daemons.program else world.daemons.program
    nodes = world.daemons.nodes if all_of_them else [node]
    world.note(earlier=program != world.daemons.program, all=all_of_them, how=how.name)
    for each in nodes:
        if each.program == program:
            continue
        world.daemons.kill(each, hold=True, how=how)
        world.daemons.wait_dead(each)
        each.program = program
        world.daemons.release(each)
        world.daemons.wait_ready(20)
    time.sleep(0.3)
