"""A disk that is full on one node: the others go on, what cannot be written is refused or the node steps
out, and it comes back by itself when there is space. What systemd would do is done here: a node that ended
is started again."""

import signal
import subprocess
import time
from contextlib import contextmanager

import pytest
from cluster_fixtures import PROGRAM
from devcluster import LOG_SCHEMA, SqlError, Writer, wait_for
from machines import CONFIG, IO, SOFTWARE, Machine, taken_down, token

# What an application may be told on the node whose disk is full.
TOLD = ("FULL", "IOERR", "BUSY", "CANTOPEN", "disk", "full", "locked", "unable to open")


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three machines, each with a small disk of its own."""
    made = []
    folder = tmp_path_factory.mktemp("full")
    with taken_down(made):
        for name in ("n1", "n2", "n3"):
            machine = Machine(folder, name, PROGRAM)
            machine.data.mkdir()
            disk = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", machine.data]
            subprocess.run(disk, check=True)
            made.append(machine)
            small = {"raft": ["log_purge_bytes: 1MiB"]}
            if name == "n1":
                machine.init(**small).start()
            else:
                machine.join(token(made[0]), made[0], check=True, **small)
                machine.start()
                wait_for(lambda n=name: made[0].members().get(n) == "voter", 30, f"{name} to vote")
        yield made


@pytest.fixture
def db(request, three):
    name = f"{request.node.name.translate(str.maketrans('[]', '--'))}.db"
    three[0].sql(name, *LOG_SCHEMA)
    return name


@pytest.fixture
def writer(db, tmp_path):
    """Starts one. None outlives its test: it would take the space that another has freed."""
    made = []

    def start(node, who):
        made.append(Writer(node.db(db), who, tmp_path / who))
        return made[-1]

    yield start
    for one in made:
        one.kill()


def leader_of(nodes):
    return wait_for(lambda: [node for node in nodes if node.is_primary()], 20, "a primary")[0]


@contextmanager
def full(node):
    """Not a byte is free, however often the node gives some back."""
    filler = node.data / "filler"
    fill(filler)
    try:
        yield
    finally:
        filler.unlink()


def fill(path):
    try:
        with open(path, "ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass


def has_ended(node):
    """For want of space. No other code may come of it: 78 would keep systemd from starting it again."""
    code = node.process.poll()
    assert code in (None, IO, SOFTWARE) and code != CONFIG, f"{code}: {node.log()[-2000:]}"
    if code is not None:
        assert "No space left on device" in node.log()[-2000:]
    return code is not None


def comes_back(node):
    """Started again whenever it ends, as systemd does."""

    def ready():
        if node.process.poll() is not None:
            node.start(ready=False)
        return node.is_ready()

    wait_for(ready, 60, f"{node} again: {node.log()[-2000:]}")


def same(nodes, name, writers):
    """no-lost-ack, converges: all that was acknowledged is on each of them."""
    acknowledged = {(w.who, k) for w in writers for k in w.acknowledged()}
    contents = set()
    for node in nodes:
        node.barrier()
        rows = {(who, k) for who, k in node.sql(name, "SELECT who, k FROM log")}
        assert acknowledged <= rows
        ((n,),) = node.sql(name, "SELECT n FROM counter")
        assert n == len(rows)
        contents.add(node.content(name))
    assert len(contents) == 1


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_the_others_go_on_and_it_comes_back_by_itself(three, db, who, writer):
    leader = leader_of(three)
    node = leader if who == "leader" else next(node for node in three if node is not leader)
    others = [other for other in three if other is not node]
    writers = [writer(each, each.name) for each in three]
    mine = writers[three.index(node)]
    wait_for(lambda: all(one.acknowledged() for one in writers), 30, "rows of all")
    with full(node):
        since = time.time()

        def others_go_on():
            fill(node.data / "filler")
            return all(writers[three.index(each)].after(since + 1) > 20 for each in others)

        wait_for(others_go_on, 30, "rows of the others")
        wait_for(lambda: has_ended(node) or mine.failures(), 30, "what it cannot write")
    for other in others:
        assert not writers[three.index(other)].failures()
    comes_back(node)
    # A connection to a daemon that has ended is of no use any more.
    mine.kill()
    again = writer(node, "again")
    wait_for(lambda: len(again.acknowledged()) > 20, 30, "rows of the node that is back")
    for one in (*(each for each in writers if each is not mine), again):
        one.stop()
    assert all(any(word in why for word in TOLD) for _, why in mine.failures()), mine.failures()
    same(three, db, [*writers, again])


def test_a_writer_is_told_that_the_disk_is_full(three, db):
    """And nothing of it is anywhere. Nobody else writes, so that the node has nothing to step out for."""
    node = next(node for node in three if not node.is_primary())
    with full(node):
        with pytest.raises(SqlError) as refused:
            node.sql(db, "INSERT INTO log VALUES (randomblob(100000), 1)")
        assert refused.value.name == "SQLITE_FULL", refused.value
        assert node.process.poll() is None and node.is_ready()
    node.sql(db, "INSERT INTO log VALUES ('there is space', 1)")
    for each in three:
        each.barrier()
        assert each.sql(db, "SELECT who FROM log") == [["there is space"]]


def test_a_start_on_a_full_disk(three, db, writer):
    """It starts, or says in one line that there is no space; and it starts once there is."""
    node = next(node for node in three if not node.is_primary())
    other = next(each for each in three if each is not node)
    node.stop(signal.SIGKILL)
    rows = writer(other, "w")
    wait_for(lambda: len(rows.acknowledged()) > 50, 30, "rows that it lacks")
    with full(node):
        for _ in range(3):
            fill(node.data / "filler")
            before = len(node.log())
            node.start(ready=False)
            wait_for(lambda: has_ended(node) or node.is_ready(), 30, "a start, or its end")
            if node.process.poll() is None:
                node.stop(signal.SIGKILL)
                continue
            said = [line for line in node.log()[before:].splitlines() if "litefs-py:" in line]
            assert len(said) == 1 and "No space left on device" in said[0], said
            assert str(node.data) in said[0]
    comes_back(node)
    rows.stop()
    same(three, db, [rows])
