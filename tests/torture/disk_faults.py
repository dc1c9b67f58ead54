"""Faults of a node's disk: full, rotten, wiped."""

import errno
import os
import shutil
import signal
import time
from pathlib import Path

import final
import isolation
from faults import fault, some_node
from operators import Failed

# A database that nobody writes into: what rots in it shows nowhere but on the disk.
STILL = "still.db"
STILL_TABLES = (
    "CREATE TABLE still(x)",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) "
    "INSERT INTO still SELECT randomblob(3000) FROM n",
)
# Rotten pages are found and mended within so many seconds: some readings, of one every two seconds.
MENDED = 30
PAGE, CHANGED = 4096, 8


@fault("disk-full", 1)
def disk_full(world, rng):
    """The node's file system has no room any more, for some seconds; some are killed in it, and are to
    start on the full disk."""
    node = some_node(world, rng)
    room = rng.choice([0, 64 << 10, 1 << 20])
    seconds, killed = rng.choice([1.0, 3.0]), rng.random() < 0.3
    node.may_end = float("inf")
    world.note(room=room, killed=killed)
    fill(node.data, room)
    time.sleep(seconds / 2)
    if killed:
        world.daemons.kill(node)
    time.sleep(seconds / 2)
    resize(node.data, world.daemons.settings["disk"])
    # What it could not write before may still end it.
    node.may_end = time.monotonic() + 5


def fill(path, room):
    """No more than this is free; the node goes on writing meanwhile, so it may take some attempts."""
    for attempt in range(50):
        usage = os.statvfs(path)
        used = (usage.f_blocks - usage.f_bfree) * usage.f_frsize
        try:
            return resize(path, used + room + attempt * 65536)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    return None


def resize(path: Path, size):
    isolation.mount(None, path, None, isolation.MS_REMOUNT, f"size={size}")


def wipe(node):
    """Everything beneath the node's data folder, of a node that does not run."""
    for path in node.data.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


class Rot:
    """Some bytes of a node's database file that a disk changed."""

    def __init__(self, rng, node, names):
        """In one of these databases, if any of them is in a file here."""
        self.node, self.spots = node, {}
        here = {name: file for name in names if (file := database_file(node, name))}
        self.name = rng.choice(sorted(here)) if here else None
        if self.name is None:
            return
        pages = here[self.name].stat().st_size // PAGE
        with open(here[self.name], "r+b", buffering=0) as file:
            for page in rng.sample(range(pages), min(pages, rng.randint(1, 3))):
                self.change(file, page * PAGE + rng.randrange(PAGE - CHANGED))

    def change(self, file, offset):
        old = os.pread(file.fileno(), CHANGED, offset)
        self.spots[offset] = bytes(byte ^ 0x5A for byte in old)
        os.pwrite(file.fileno(), self.spots[offset], offset)

    def pages(self):
        return sorted(offset // PAGE + 1 for offset in self.spots)

    def is_there(self):
        """Whether something of it is still where a reader would meet it."""
        file = database_file(self.node, self.name) if self.spots else None
        content = file.read_bytes() if file else b""
        return any(content[at : at + CHANGED] == rotten for at, rotten in self.spots.items())


def database_file(node, name):
    """Where a node keeps a database: the record beside it has its name, with its length."""
    for record in sorted((node.data / "dbs").glob("*/record")):
        try:
            known = bytes([len(name)]) + name.encode() in record.read_bytes()
        except FileNotFoundError:
            continue
        file = record.with_name("database")
        if known and file.exists() and file.stat().st_size:
            return file
    return None


@fault("rot-while-stopped", 1, newer=True)
def rot_while_stopped(world, rng):
    """Any database rots while its node is down. The start finds what the log does not write over, sets it
    aside, says so, and fetches the database from the others (Rule 13)."""
    node, how = some_node(world, rng), rng.choice([signal.SIGKILL, signal.SIGTERM])
    names = sorted(node.positions() or ())
    world.daemons.kill(node, hold=True, how=how)
    world.daemons.wait_dead(node)
    rot = Rot(rng, node, names)
    world.note(database=rot.name, pages=rot.pages(), how=how.name)
    world.daemons.release(node)
    wait_mended(world, rot)
    for aside in sorted((node.data / "aside").glob(f"{rot.name}-*")):
        if str(aside) not in node.log.read_text(errors="replace"):
            raise Failed(f"{aside} was set aside, and the log does not say so")
        world.note(aside=aside.name)
        shutil.rmtree(aside)


@fault("rot-while-running", 1, newer=True)
def rot_while_running(world, rng):
    """A database that nobody uses rots beneath the running node. A scheduled reading finds it, names the
    pages, and mends them from another node."""
    node, kill = some_node(world, rng), rng.random() < 0.4
    try:
        final.shell(node, STILL, "PRAGMA wal_checkpoint(TRUNCATE)")
    except final.Unreadable:
        # It is about to be started anew, or to be fetched.
        return
    rot = Rot(rng, node, [STILL])
    world.note(pages=rot.pages(), kill=kill)
    if kill:
        # Of whom it may be asking for the page.
        other = next(each for each in world.daemons.nodes if each is not node)
        world.daemons.kill(other)
    wait_mended(world, rot)
    named = "pages are not what was written", "a rotten page was mended"
    log = node.log.read_text(errors="replace")
    if rot.spots and not all(words in log for words in named):
        raise Failed(f"{node} does not say that pages {rot.pages()} of {STILL} were rotten")


def wait_mended(world, rot):
    end = time.monotonic() + MENDED
    while rot.is_there() or not rot.node.is_ready():
        if time.monotonic() > end:
            raise Failed(f"pages {rot.pages()} of {rot.name} on {rot.node} stay rotten")
        time.sleep(0.1)
