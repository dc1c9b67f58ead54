"""Fixtures: SQLite's own programs, of three versions of SQLite, on the mount and beside it.

    pytest tests/sqlite_programs    needs what tests/cluster needs, and apt, dpkg-source, tclsh, cc, make
    LITEFS_PY_SLOW=1                all programs with all versions and for longer (make torture)

The first run gets and builds the programs, below target/sqlite-programs: a minute or two.
"""

import functools
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CLUSTER = HERE.parent / "cluster"
sys.path[:0] = [str(HERE), str(CLUSTER)]

from cluster_fixtures import (  # noqa: E402, F401
    make_cluster,
    measured,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_terminal_summary,
)
from devcluster import Client, Hung, die_with_parent  # noqa: E402
from source import Missing, debian_source, version  # noqa: E402

SLOW = bool(os.environ.get("LITEFS_PY_SLOW"))
VERSIONS = ["debian", "newest", "old"]


@dataclass
class Done:
    """A program that ended by itself."""

    code: int
    output: str

    def line(self, beginning):
        """The one line that begins so."""
        (found,) = [line for line in self.output.splitlines() if line.startswith(beginning)]
        return found


def end_group(leader):
    """A program's own children too; mptester has some."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run_in(folder, program, *arguments, deadline=120.0, called=None, **environment):
    """Runs a program in a folder that may be a mount; raises Hung at the deadline (bounded-answer).

    `called`: its argv[0]. The folder is entered by a shell, since this process waits for whoever
    it starts until that was done."""
    script = 'cd "$1" && shift && exec -a "$1" "${@:2}"'
    command = ["bash", "-c", script, "bash", folder, called or program, program, *arguments]
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=die_with_parent,
        env={**os.environ, **environment},
    )
    try:
        output, _ = process.communicate(timeout=deadline)
    except subprocess.TimeoutExpired:
        end_group(process.pid)
        raise Hung(f"{program} {arguments} in {folder}: no end in {deadline} s") from None
    finally:
        end_group(process.pid)
    return Done(process.returncode, output)


def content(path):
    """A hash of all that a reader sees in a database, which must be sound."""
    with Client(path) as client:
        assert client.run("PRAGMA integrity_check") == [["ok"]], path
        client.start(hash=True)
        return client.finish()


def same_everywhere(cluster, db, plain=None):
    """converges, one-history: sound and equal on all nodes; and as on the plain file system."""
    cluster.same(db)
    if plain is not None:
        assert content(cluster.nodes[0].db(db)) == content(plain), f"{db}: not as {plain}"


def or_skip(make):
    try:
        return make()
    except Missing as why:
        pytest.skip(f"SQLite's own programs cannot be had: {why}")


@pytest.fixture(scope="session")
def source():
    """Debian's source of SQLite."""
    return or_skip(debian_source) / "source"


@pytest.fixture(scope="session")
def versions():
    """All three, by name."""
    return or_skip(lambda: {name: version(name) for name in VERSIONS})


@pytest.fixture(params=VERSIONS)
def sqlite(versions, request):
    """Each in turn."""
    return versions[request.param]


@pytest.fixture(scope="module")
def cluster_for(make_cluster):  # noqa: F811 (the imported fixture)
    """The three nodes for a journal mode: as they are by default for WAL, else with `journal: any`."""

    @functools.cache
    def cluster(any_journal):
        return make_cluster(settings={"journal: wal": "journal: any"} if any_journal else {})

    return lambda journal: cluster(journal != "wal")
