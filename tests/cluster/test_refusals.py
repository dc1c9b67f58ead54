"""What cannot be replicated is refused, changes nothing, and says why in the log."""

import os
import sys

import pytest
from devcluster import Client, SqlError, run, shell, wait_for

BASH = "bash"


@pytest.fixture
def filled(cluster, db):
    cluster.create(
        db, "PRAGMA journal_mode = wal", "CREATE TABLE t(x)", "INSERT INTO t VALUES ('kept')"
    )
    return db


@pytest.fixture(params=["leader", "follower"])
def node(cluster, request):
    return cluster.leader() if request.param == "leader" else cluster.followers()[0]


def refused(node, *command, word):
    """The command fails, and the node's log says why in a line that has this word: now or lately,
    since a line of one kind is held back for ten seconds."""
    done = run(*command, check=False)
    assert done.returncode != 0, f"{command} was not refused"
    logged(node, word)


def logged(node, *words):
    """A line about a refusal that has all these words."""

    def there():
        lines = [line for line in node.log().splitlines() if "refused" in line]
        return any(all(word in line for word in words) for line in lines)

    wait_for(there, 5, f"a log line about {words}")


def unharmed(cluster, db):
    cluster.same(db)
    for node in cluster.nodes:
        assert node.sql(db, "SELECT x FROM t") == [["kept"]]
    cluster.leader().sql(db, "INSERT INTO t VALUES ('more')", "DELETE FROM t WHERE x = 'more'")


def test_copying_over_a_database(cluster, node, filled, tmp_path):
    """cp and dd write pages that nobody locked for."""
    shell(
        tmp_path / "other.db", "CREATE TABLE other(x); INSERT INTO other VALUES (zeroblob(50000))"
    )
    refused(node, "cp", tmp_path / "other.db", node.db(filled), word=filled)
    logged(node, filled, ".restore")
    refused(
        node, "dd", f"if={tmp_path}/other.db", f"of={node.db(filled)}", "conv=notrunc", word=filled
    )
    refused(node, BASH, "-c", f": > {node.db(filled)}", word="truncate")
    refused(node, "truncate", "-s", "4096", node.db(filled), word="truncate")
    unharmed(cluster, filled)


def test_writing_over_the_wal(cluster, node, filled):
    with node.client(filled) as client:
        client.run("INSERT INTO t VALUES ('more')")
        refused(
            node,
            "dd",
            "if=/dev/zero",
            f"of={node.db(filled)}-wal",
            "bs=4096",
            "count=1",
            "conv=notrunc",
            word=filled,
        )
        client.run("DELETE FROM t WHERE x = 'more'")
    unharmed(cluster, filled)


def test_moving(cluster, node, filled, tmp_path):
    refused(node, "mv", node.db(filled), node.db("moved.db"), word="rename")
    shell(tmp_path / "in.db", "CREATE TABLE t(x)")
    for command in (
        ("mv", tmp_path / "in.db", node.db(filled)),
        ("mv", node.db(filled), tmp_path / "out.db"),
        ("cp", "--remove-destination", tmp_path / "in.db", node.db(filled)),
    ):
        refused(node, *command, word=".restore")
        assert node.sql(filled, "SELECT x FROM t") == [["kept"]]
    refused(node, "ln", node.db(filled), node.db("linked.db"), word='"link"')
    unharmed(cluster, filled)


def test_folders_and_links(cluster, node):
    refused(node, "mkdir", node.db("folder"), word="mkdir")
    refused(node, "ln", "-s", "/etc/passwd", node.db("link.db"), word="symlink")
    refused(node, "mkfifo", node.db("pipe"), word="mknod")


def test_no_database(cluster, node):
    """A file that is no SQLite database never reaches the other nodes."""
    name = f"text-{node}.db"
    refused(node, BASH, "-c", f"echo hello > {node.db(name)}", word=name)
    for other in cluster.nodes:
        assert name not in other.databases() or other.databases()[name]["pages"] == 0
    run("rm", "-f", node.db(name))
    node.sql(name, "CREATE TABLE t(x)", "INSERT INTO t VALUES ('kept')")
    unharmed(cluster, name)


def test_a_name_that_is_too_long(cluster, node):
    for name in ("x" * 248, "x" * 255):
        assert run("touch", node.db(name), check=False).returncode != 0
    logged(node, "at most 247")
    longest = "y" * 247
    node.sql(longest, "CREATE TABLE IF NOT EXISTS t(x)")
    cluster.same(longest)


def test_names_that_belong_to_others(cluster, node):
    assert run("touch", node.db(".hidden"), check=False).returncode != 0
    assert run(BASH, "-c", f"echo n1 > {node.db('.primary')}", check=False).returncode != 0
    assert run("ls", node.db(".hidden"), check=False).returncode != 0


def test_exclusive_locking_in_wal(cluster, node, filled):
    """It has no wal-index that others could read: no row comes in that way, and the log says why."""
    with node.client(filled, timeout=1) as client:
        client.run("PRAGMA locking_mode = exclusive")
        with pytest.raises(SqlError):
            client.run("INSERT INTO t VALUES ('more')")
        logged(node, "exclusive", f"pid={client.process.pid}")
    unharmed(cluster, filled)


def test_a_close_is_no_refusal(node, filled):
    """SQLite asks for exclusive use at each close, and takes no for an answer."""
    with node.client(filled) as client:
        client.run("SELECT x FROM t")
        client.close()
        # What would be logged of it, would be before what is logged of this.
        with node.client(filled, timeout=1) as other:
            other.run("PRAGMA locking_mode = exclusive")
            with pytest.raises(SqlError):
                other.run("INSERT INTO t VALUES ('more')")
            logged(node, "exclusive", f"pid={other.process.pid}")
        assert f"pid={client.process.pid} " not in node.log()


@pytest.mark.parametrize("mode", ["memory", "off"])
def test_no_rollback_journal(cluster, node, db, mode):
    """A new database; in WAL mode SQLite itself does not take these."""
    with node.client(db) as client:
        client.run(f"PRAGMA journal_mode = {mode}")
        with pytest.raises(SqlError):
            client.run("CREATE TABLE t(x)")
    logged(node, "journal_mode", db)
    for other in cluster.nodes:
        assert db not in other.databases()


def test_an_encrypted_database(cluster, node, filled):
    """A program that locks as SQLite does, and writes what is no SQLite page: not one byte of it
    reaches anybody."""
    script = (
        "import fcntl, os, sys\n"
        "path = sys.argv[1]\n"
        "main = os.open(path, os.O_RDWR | os.O_CREAT)\n"
        "fcntl.lockf(main, fcntl.LOCK_EX, 512, 0x40000000)\n"
        "journal = os.open(path + '-journal', os.O_RDWR | os.O_CREAT)\n"
        "head = bytes.fromhex('d9d505f920a163d7') + bytes(4) + os.urandom(4) + bytes(4)\n"
        "os.pwrite(journal, head + (512).to_bytes(4, 'big') + (4096).to_bytes(4, 'big'), 0)\n"
        "os.pwrite(main, os.urandom(4096), 0)\n"
        "os.unlink(path + '-journal')\n"
    )
    name = f"encrypted-{node}.db"
    refused(node, sys.executable, "-c", script, node.db(name), word=name)
    for other in cluster.nodes:
        assert name not in other.databases()
    unharmed(cluster, filled)


def test_a_read_only_connection(cluster, node, filled):
    with Client(f"{node.db(filled)}") as client:
        client.run("PRAGMA query_only = 1")
        assert client.run("SELECT x FROM t") == [["kept"]]
        with pytest.raises(SqlError):
            client.run("INSERT INTO t VALUES ('more')")
    unharmed(cluster, filled)


def test_unlinking_the_wal_or_shm_by_hand(cluster, node, filled):
    """Never under a living connection; without one it loses nothing."""
    with node.client(filled) as client:
        client.run("INSERT INTO t VALUES ('more')")
        run("rm", "-f", f"{node.db(filled)}-shm", check=False)
        run("rm", "-f", f"{node.db(filled)}-wal", check=False)
        client.run("DELETE FROM t WHERE x = 'more'")
        assert client.run("SELECT x FROM t") == [["kept"]]
    unharmed(cluster, filled)


def test_chmod_and_chown_do_no_harm(cluster, node, filled):
    for command in (("chmod", "000"), ("chown", f"{os.getuid()}:{os.getgid()}")):
        run(*command, node.db(filled), check=False)
        unharmed(cluster, filled)
