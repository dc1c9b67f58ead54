"""What an operator does to the members: the program's own commands, given again for as long as the cluster
cannot decide (no leader, no quorum, a fault of a moment ago)."""

import re
import shutil
import subprocess
import time

from daemons import REMOVED
from network import inside

# sysexits(3): no such member; a conflict, such as "votes already".
UNKNOWN, CONFLICT = 66, 73
# One command answers within so many seconds (bounded-answer).
ANSWER = 60
# The cluster decides within so many, once the faults are over.
DECIDED = 40


class Failed(Exception):
    """The cluster does not do what it is told; the run cannot go on."""


class Operator:
    def __init__(self, daemons):
        self.daemons = daemons

    def once(self, node, *words):
        """One command, on a node's machine."""
        command = [*inside(node.name), str(self.daemons.program), *map(str, words)]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=ANSWER)
        except subprocess.TimeoutExpired:
            raise Failed(f"no answer in {ANSWER} s: {words}") from None

    def ask(self, *words, but=None, good=()):
        """Asks one node after the other, until one has it done. `but`: not this one. `good`: exit codes
        that say that an earlier attempt did it."""
        said, end = "nobody was asked", time.monotonic() + DECIDED
        while time.monotonic() < end:
            for node in self.daemons.nodes:
                if node is but or not node.alive():
                    continue
                done = self.once(node, *words, "--config", node.config)
                if done.returncode in (0, *good):
                    return done.stdout.strip()
                said = f"{node}: {done.returncode}: {done.stderr.strip()}"
            time.sleep(0.1)
        raise Failed(f"{words}: {said}")

    def remove(self, node):
        self.ask("member", "remove", node.name, but=node, good=[UNKNOWN])

    def promote(self, node):
        self.ask("member", "promote", node.name, good=[CONFLICT])

    def demote(self, node):
        self.ask("member", "demote", node.name, good=[CONFLICT])

    def join(self, node, learner=False):
        """By a token of its own; the settings of its configuration stay."""
        others = [self.daemons.address(each) for each in self.daemons.nodes if each is not node]
        place = ["--name", node.name, "--address", self.daemons.address(node)]
        place += ["--config", node.config, "--replace"]
        said, end = "", time.monotonic() + DECIDED
        while time.monotonic() < end:
            token = self.ask("token", "create", *(["--learner"] if learner else []), but=node)
            done = self.once(node, "join", token, "--server", ",".join(others), *place)
            if done.returncode == 0:
                return
            said = f"{done.returncode}: {done.stderr.strip()}"
            if "has this name" in said:
                # It was let in, and the answer was lost.
                self.remove(node)
        raise Failed(f"{node} is not let in: {said}")

    def members(self):
        """As the leader sees them; nothing while there is none."""
        leader = self.daemons.leader()
        code, members = leader.ask("/members") if leader else (0, None)
        return members if code == 200 else []

    def roles(self):
        return {each["name"]: each["role"] for each in self.members()}

    def knows_the_others(self, node):
        """Whether a node that has nothing but its configuration finds the cluster by it: members that
        joined later it does not let in."""
        shown = self.once(node, "config", "show", node.config).stdout
        known = {int(number) for number in re.findall(r"^- id: (\d+)$", shown, re.MULTILINE)}
        members = {each["id"] for each in self.members()}
        return bool(members) and members <= known

    def wait_role(self, node, *roles):
        end = time.monotonic() + DECIDED
        while (role := self.roles().get(node.name)) not in roles:
            if time.monotonic() > end:
                raise Failed(f"{node} is {role}, not {roles}, after {DECIDED} s")
            time.sleep(0.1)

    def wait_gone(self, node):
        """A removed node ends by itself, and what it held is kept (nothing-discarded)."""
        if not self.daemons.has_ended(node, DECIDED):
            raise Failed(f"{node} was removed, and does not end")
        if node.process.returncode != REMOVED:
            raise Failed(f"{node} was removed, and ended with {node.process.returncode}")
        kept = list((node.data / "aside").glob("*/identity"))
        if len(kept) != 1 or not (kept[0].parent / "raft").is_dir():
            raise Failed(f"nothing-discarded: of the removed {node} {kept} is kept")
        shutil.rmtree(kept[0].parent)
