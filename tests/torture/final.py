"""What is there at the end: the same on all nodes, whole, and what it is.

By the sqlite3 shell, in processes of their own: this one never touches a mount.
"""

import hashlib
import subprocess

# Seconds for one look at one database.
LONGEST = 60


class Unreadable(Exception):
    """A database that cannot be looked at."""


def shell(node, name, *commands, mode="rw"):
    """What the shell prints, as bytes."""
    database = f"file:{node.mount / name}?mode={mode}"
    command = ["sqlite3", "-batch", "-bail", "-cmd", ".timeout 10000", database, *commands]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LONGEST
        )
    except subprocess.TimeoutExpired:
        raise Unreadable(f"{name} on {node}: no answer in {LONGEST} s") from None
    if done.returncode:
        raise Unreadable(f"{name} on {node}: {done.stderr.decode().strip()}")
    return done.stdout


def content(node, name):
    """(integrity, hash of all that a reader sees)."""
    checked = shell(node, name, "PRAGMA integrity_check").decode().strip()
    return checked, hashlib.sha256(shell(node, name, ".dump")).hexdigest()


def log_rows(node, name):
    text = shell(node, name, "SELECT seq, who, n, a, b, c FROM log ORDER BY seq").decode()
    return [tuple(int(part) if part else None for part in line.split("|")) for line in text.split()]


def lists(node, name):
    text = shell(node, name, "SELECT k, v FROM lists").decode()
    pairs = (line.split("|") for line in text.split())
    return {int(key): [int(part) for part in content.split(",")] for key, content in pairs}


def compare(daemons, seconds):
    """(databases, problems): each database's position, if all nodes agree in every way in time."""
    problems = []
    for _ in range(5):
        before = daemons.settled(seconds)
        if before is None:
            found = {node.name: node.positions() for node in daemons.nodes}
            return {}, [f"the nodes do not come to one position in {seconds} s: {found}"]
        problems = []
        for name in before:
            try:
                seen = {node.name: content(node, name) for node in daemons.nodes}
            except Unreadable as error:
                problems.append(str(error))
                continue
            problems += [
                f"{name} on {node}: integrity_check says {checked[:500]}"
                for node, (checked, _) in seen.items()
                if checked != "ok"
            ]
            if len({digest for _, digest in seen.values()}) > 1:
                problems.append(f"{name} differs: {seen}")
        # The last transaction of a client whose COMMIT had an open outcome may have come meanwhile.
        if daemons.settled(seconds) == before:
            return before, problems
    return before, [*problems, "the positions go on changing without anybody writing"]
