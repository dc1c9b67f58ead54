"""What the parts of the benchmark share: a cluster, the plain file, the rows, and work in processes of
its own."""

import json
import shutil
import sys
from pathlib import Path

from devcluster import LOG_SCHEMA, Cluster, run
from table import Row, figures

ROOT = Path(__file__).resolve().parents[1]
WORK = Path(__file__).with_name("work.py")
DB = "bench.db"


class Skipped(Exception):
    """A part that cannot be measured here, and why."""


class Bench:
    """One run. Whatever it makes lies in `folder`."""

    def __init__(self, folder, options):
        self.folder, self.options = Path(folder), options
        self.rows, self.made, self.filled = [], 0, False
        self._cluster = None
        self.plain = self.plain_of("plain")

    def note(self, what, unit, ours, plain=None, reach=None, beside=""):
        row = Row(what, unit, ours, plain, reach, beside)
        self.rows.append(row)
        said = f"  {what}: {figures(ours)} {unit}"
        said += f", {beside or 'plain'} {figures(plain)}" if plain else ""
        print(said + (f"; {row.got()}" if reach else ""), file=sys.stderr, flush=True)

    def plain_of(self, name):
        return self.folder / f"{name}.db"

    @property
    def cluster(self):
        """Three nodes with the tables of work.py in them; made by the first part that wants them."""
        if not self.filled:
            self.fresh_cluster()
            self.plain.unlink(missing_ok=True)
            work("prepare", self.plain)
            work("prepare", self._cluster.leader().db(DB))
            self._cluster.settle(DB)
            self._cluster.create("log.db", *LOG_SCHEMA)
            self.filled = True
        return self._cluster

    def fresh_cluster(self, nodes=3, folder=None):
        """One that nobody has used, in place of the one that there was."""
        self.put_away()
        self.made += 1
        folder = folder or self.folder / f"dev{self.made}"
        self._cluster = Cluster(folder, nodes=nodes, program=self.options.program)
        return self._cluster.start()

    def put_away(self):
        """No cluster runs, and nothing of it is left on the disk."""
        if self._cluster is None:
            return
        try:
            self._cluster.stop()
        finally:
            self._cluster.clear()
            shutil.rmtree(self._cluster.folder, ignore_errors=True)
            self._cluster, self.filled = None, False

    def heal(self):
        if self._cluster is not None:
            self._cluster.heal()

    def databases(self):
        """The plain file, the mount of the leader, that of a follower."""
        leader, follower = self.cluster.leader(), self.cluster.followers()[0]
        return str(self.plain), leader.db(DB), follower.db(DB)

    def runs(self, *cases):
        """Each case several times, in turns, so that a bad moment of the machine hits all. A case:
        arguments of work.py. Answers a list of results for each."""
        found = [[] for _ in cases]
        for _ in range(self.options.runs):
            for results, case in zip(found, cases, strict=True):
                results.append(work(*case))
        return found

    def needs(self, size):
        """So much of the disk for a while, and some for the logs."""
        size, free = size + 2e9, shutil.disk_usage(self.folder).free
        if free < size:
            raise Skipped(f"it takes {size / 1e9:.0f} GB for a while; {free / 1e9:.0f} GB are free")


def work(*arguments, deadline=300):
    return json.loads(run(sys.executable, WORK, *arguments, deadline=deadline).stdout)


def with_table(database):
    script = "PRAGMA journal_mode = wal; CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT);"
    run("sqlite3", database, script)


def remove(*databases):
    """By a process that may hang, as anything on a mount; there, the rest goes with the database."""
    run("rm", "-f", *databases)
