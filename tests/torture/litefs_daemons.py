"""Nodes with `engine: litefs`, each with an unmodified LiteFS beneath its daemon."""

import json
import os
import re
import signal
import time
from datetime import datetime
from pathlib import Path

from daemons import Daemons
from isolation import why_not as why_not_here

# Colours, in a log.
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def find():
    """`LITEFS_PY_TEST_LITEFS`, or the one on PATH; none."""
    named = os.environ.get("LITEFS_PY_TEST_LITEFS")
    places = [Path(folder) / "litefs" for folder in os.get_exec_path() if folder]
    for place in [Path(named)] if named else places:
        if place.is_file() and os.access(place, os.X_OK):
            return place.resolve()
    return None


def why_not(program):
    """Why this cannot be run on this machine; nothing if it can."""
    if find() is None:
        return "there is no LiteFS: set LITEFS_PY_TEST_LITEFS, or put litefs on PATH"
    return why_not_here(program)


def litefs_pid(node):
    """Of LiteFS itself, as its guard wrote it down; none while it does not run."""
    try:
        pid, started = (node.data / "litefs-daemon/pid").read_text().split()
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (OSError, ValueError):
        return None
    return int(pid) if stat[0] != "Z" and stat[19] == started else None


class LitefsDaemons(Daemons):
    """`settings["litefs"]`: of that section of the configuration. `wiped`: (node, when) of what was taken
    away."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.wiped = []

    def configuration(self, node, number, ca):
        config = json.loads(super().configuration(node, number, ca))
        config.pop("scrub_interval", None)
        config["mount"].pop("passthrough")
        config["engine"] = "litefs"
        config["litefs"] = {"binary": str(find()), **self.settings["litefs"]}
        return json.dumps(config, indent=1)

    def signal_litefs(self, node, number=signal.SIGKILL):
        """Answers its process's number; none if it did not run."""
        pid = litefs_pid(node)
        try:
            if pid is not None:
                os.kill(pid, number)
        except ProcessLookupError:
            return None
        return pid

    def tenures(self):
        """{number: (when it began, node)}, nanoseconds of the monotonic clock; the last hundred, as the node
        says that knows most."""
        ahead = time.time_ns() - time.monotonic_ns()
        told = [node.ask("/history") for node in self.nodes]
        told = [history for code, history in told if code == 200]
        longest = max(told, key=lambda history: history[-1]["term"] if history else 0, default=[])
        return {
            each["term"]: (each["since_ms"] * 10**6 - ahead, each["leader"]) for each in longest
        }

    def ends(self, since):
        """(node, when) of what ended a LiteFS: its daemon was taken down, or says so."""
        found = [(node, at) for node, times in self.events.times("down").items() for at in times]
        ahead = time.time_ns() - time.monotonic_ns()
        for node in self.nodes:
            for line in node.log.read_text(errors="replace").splitlines():
                if "LiteFS has ended" in line or "fatal error occurred while committing" in line:
                    at = datetime.fromisoformat(ESCAPES.sub("", line).split()[0])
                    found.append((node.name, int(at.timestamp() * 1e9) - ahead))
        return [(node, at) for node, at in found if at > since]

    def diverged(self, node):
        """What is set aside there."""
        code, listed = node.ask("/diverged", timeout=10)
        if code != 200:
            raise OSError(f"{node} does not say what it has set aside: {code} {listed}")
        return listed
