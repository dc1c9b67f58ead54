"""`litefs-py import` and `export`: databases in and out of a running cluster, and what goes wrong on the
way. Each makes files of its own; the cluster of the file is shared."""

import hashlib
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from devcluster import LOG_SCHEMA, die_with_parent, shell, wait_for

# sysexits(3).
DATA, NO_INPUT, UNAVAILABLE, CANNOT_CREATE, IO, TRY_AGAIN = 65, 66, 69, 73, 74, 75

FILL = "INSERT INTO t(b) SELECT randomblob(3000) FROM pragma_function_list LIMIT 60"


def make(path, *statements, settings=()):
    """An SQLite file that nobody has open."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in (
        *settings,
        "CREATE TABLE t(id INTEGER PRIMARY KEY, b)",
        *(statements or (FILL,)),
    ):
        connection.execute(statement)
    connection.close()
    return path


def count(path):
    """Of a file that must be sound."""
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    (rows,) = connection.execute("SELECT count(*) FROM t").fetchone()
    connection.close()
    return rows


def refused(done, code, *words):
    assert done.returncode == code, done
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, f"not one clear line: {done.stderr}"
    for word in words:
        assert word in lines[0], f"{word!r} is not in {lines[0]!r}"


def importing(cluster, path, name, node, check=True, deadline=60):
    where = ("--dir", cluster.folder, "--node", node.name)
    return cluster.command("import", path, name, *where, "--json", check=check, deadline=deadline)


def exporting(cluster, name, path, node, *more, check=True):
    where = ("--dir", cluster.folder, "--node", node.name)
    return cluster.command("export", name, path, *where, "--json", *more, check=check)


def spooled(node):
    return list((node.folder / "data" / "imports").iterdir())


class Api:
    """A node's Unix socket, as curl would use it."""

    def __init__(self, node):
        self.path = str(node.folder / "api.sock")

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("localhost", timeout=70)
        connection.sock = socket.socket(socket.AF_UNIX)
        # The path of a socket is short; that of a test's folder may not be.
        folder = os.open(os.path.dirname(self.path), os.O_PATH)
        try:
            connection.sock.connect(f"/proc/self/fd/{folder}/{os.path.basename(self.path)}")
            connection.request(method, path, body)
            response = connection.getresponse()
            text = response.read()
            is_json = response.headers.get_content_type() == "application/json"
            return response.status, json.loads(text) if is_json else text
        finally:
            os.close(folder)
            connection.close()

    def begin(self, name, content):
        wish = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        return self.ask("POST", f"/databases/{name}/import", json.dumps(wish))


@contextmanager
def small_disk(folder, size):
    """A file system of its own that is soon full."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("where", ["leader", "follower"])
def test_import_is_one_creation_on_all_nodes(cluster, db, tmp_path, where):
    """Another page size and encoding, a database above the size that is staged; in WAL mode then."""
    settings = ("PRAGMA page_size=8192", "PRAGMA encoding='UTF-16le'")
    path = make(
        tmp_path / "a.db", *[FILL] * 20, "INSERT INTO t VALUES (5000, 'ü')", settings=settings
    )
    node = cluster.leader() if where == "leader" else cluster.followers()[0]
    told = json.loads(importing(cluster, path, db, node).stdout)
    assert (told["database"], told["page_size"], told["journal"]) == (db, 8192, "wal")
    assert node.position(db) == told["position"], "there when the command returns"
    assert told["position"].startswith("0000000000000001/"), "one transaction"
    cluster.same(db)
    for other in cluster.nodes:
        with other.client(db) as client:
            assert client.one("PRAGMA journal_mode") == "wal"
            assert client.one("PRAGMA encoding") == "UTF-16le"
            assert client.one("SELECT b FROM t WHERE id = 5000") == "ü"
            assert client.one("SELECT count(*) FROM t") == 1201
    cluster.followers()[1].sql(db, "INSERT INTO t(b) VALUES ('after')")
    cluster.same(db)
    assert not any(spooled(node) for node in cluster.nodes)
    # What was imported outlives a crash, before anything was checkpointed.
    cluster.kill(node)
    cluster.restart(node)
    cluster.same(db)


def test_what_lies_in_the_wal_comes_along(cluster, db, tmp_path):
    """The application was killed: its last transactions are in the WAL alone."""
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=wal")
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, b)")
    connection.execute(FILL)
    # As it lies there while the connection is open: the same as after a SIGKILL.
    for suffix in ("", "-wal"):
        (tmp_path / f"killed.db{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    connection.close()
    importing(cluster, tmp_path / "killed.db", db, cluster.leader())
    assert cluster.followers()[0].sql(db, "SELECT count(*) FROM t") == [[60]]
    cluster.same(db)


def test_a_name_that_is_taken(cluster, db, tmp_path):
    """Refused, at the command and over HTTP; nothing changes, also where it is found out late."""
    path = make(tmp_path / "a.db")
    importing(cluster, path, db, cluster.leader())
    position = cluster.settle(db)
    for node in cluster.nodes:
        refused(importing(cluster, path, db, node, check=False), CANNOT_CREATE, db, "exists")
        code, body = Api(node).begin(db, path.read_bytes())
        assert code == 409 and "exists" in body["error"]
    assert cluster.settle(db) == position
    assert not any(spooled(node) for node in cluster.nodes)


def test_two_at_once_and_an_application(cluster, db, tmp_path):
    """one-history: several bring the same name in, and an application begins it: one of them."""
    files = [make(tmp_path / f"{n}.db", *[FILL] * (n + 1)) for n in range(3)]
    results = {}

    def run(node, path):
        results[node.name] = importing(cluster, path, db, node, check=False).returncode

    threads = [
        threading.Thread(target=run, args=pair) for pair in zip(cluster.nodes, files, strict=True)
    ]
    for thread in threads:
        thread.start()
    made = shell(cluster.nodes[0].db(db), "CREATE TABLE mine(x)", check=False).returncode == 0
    for thread in threads:
        thread.join()
    cluster.same(db)
    codes = sorted(results.values())
    assert codes.count(0) <= 1 and set(codes) <= {0, CANNOT_CREATE, TRY_AGAIN}, results
    tables = {row[0] for row in cluster.nodes[1].sql(db, "SELECT name FROM sqlite_schema")}
    assert ("t" in tables) == (0 in codes) and ("mine" in tables) == made
    if 0 in codes:
        (winner,) = [name for name, code in results.items() if code == 0]
        rows = 60 * (int(winner[1:]))
        assert cluster.nodes[1].sql(db, "SELECT count(*) FROM t") == [[rows]]
    assert not any(spooled(node) for node in cluster.nodes)


@pytest.mark.parametrize("what", ["text", "empty", "rotten", "short", "journal", "gone"])
def test_what_is_no_sound_database(cluster, db, tmp_path, what):
    path = tmp_path / "a.db"
    code, word = DATA, "damaged"
    if what not in ("text", "empty", "gone"):
        make(path, *[FILL] * 3)
    match what:
        case "text":
            path.write_text("hello " * 1000)
            word = "no SQLite database"
        case "empty":
            path.write_bytes(b"")
            word = "empty"
        case "rotten":
            content = bytearray(path.read_bytes())
            content[9 * 4096 : 12 * 4096] = bytes(3 * 4096)
            path.write_bytes(content)
        case "short":
            os.truncate(path, path.stat().st_size - 5 * 4096)
        case "journal":
            (tmp_path / "a.db-journal").write_bytes(
                b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(600)
            )
            code, word = TRY_AGAIN, "not ended"
        case "gone":
            code, word = NO_INPUT, str(path)
    node = cluster.leader()
    refused(importing(cluster, path, db, node, check=False), code, word)
    assert node.position(db) is None and not spooled(node)


def test_a_file_that_is_written_meanwhile(cluster, db, tmp_path):
    """A copy of it would be half of one transaction and half of another."""
    path = make(tmp_path / "a.db", *[FILL] * 60)
    node = cluster.leader()
    cluster.pause(node)
    process = subprocess.Popen(
        [cluster.program, "import", path, db, "--dir", cluster.folder, "--node", node.name],
        stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent,
    )  # fmt: skip
    # It has read the file once, and waits for the node that it sends it to.
    wait_for(lambda: is_connected(process.pid), 20, "the import's connection")
    sqlite3.connect(path, isolation_level=None).execute("UPDATE t SET b = 'other' WHERE id = 1")
    cluster.resume(node)
    assert process.wait(60) == TRY_AGAIN
    assert "written while it was read" in process.stderr.read()
    assert node.position(db) is None and not spooled(node)


def is_connected(pid):
    links = Path(f"/proc/{pid}/fd").iterdir()
    return any("socket:" in os.readlink(link) for link in links if link.is_symlink())


def test_an_upload_goes_on_where_it_was(cluster, db, tmp_path):
    """After a restart of the node, too; what does not follow is refused, and so are other bytes."""
    path = make(tmp_path / "a.db", *[FILL] * 20)
    content = path.read_bytes()
    node = cluster.followers()[0]
    api = Api(node)
    code, begun = api.begin(db, content)
    assert (code, begun["received"]) == (200, 0)
    upload = f"/databases/{db}/import/{begun['upload']}"
    first = 1_000_001
    assert api.ask("PUT", f"{upload}?offset=0", content[:first])[1]["received"] == first
    for offset, piece in [(0, b"x"), (first + 1, b"x"), (first, content)]:
        code, body = api.ask("PUT", f"{upload}?offset={offset}", piece)
        assert code == 412 and str(first) in body["error"], body
    assert api.ask("POST", upload)[0] == 412, "not all of it is here"
    with pytest.raises(OSError):
        # Longer than a piece may be: it is not read to its end.
        api.ask("PUT", f"{upload}?offset={first}", bytes(64 << 20))
    cluster.kill(node)
    cluster.restart(node)
    code, again = api.begin(db, content)
    assert again == {"upload": begun["upload"], "received": first}
    # The command finds it, too, and sends the rest.
    told = json.loads(importing(cluster, path, db, node).stdout)
    assert told["pages"] * told["page_size"] == len(content)
    cluster.same(db)
    # Sent to its end, and not what was announced.
    other = f"x-{db}"
    code, begun = api.begin(other, content)
    upload = f"/databases/{other}/import/{begun['upload']}"
    wrong = bytes([content[0] ^ 1]) + content[1:]
    assert api.ask("PUT", f"{upload}?offset=0", wrong)[0] == 200
    code, body = api.ask("POST", upload)
    assert code == 422 and "announced" in body["error"]
    assert node.position(other) is None and not spooled(node)


def test_a_full_disk(cluster, db, tmp_path):
    """Said before it begins, and when it comes in the middle; with room again it goes on."""
    path = make(tmp_path / "a.db", *[FILL] * 20)
    content = path.read_bytes()
    node = cluster.leader()
    with small_disk(node.folder / "data" / "imports", "16m") as disk:
        huge = tmp_path / "huge.db"
        make(huge, *[FILL] * 40)
        refused(importing(cluster, huge, db, node, check=False), IO, "disk", "room")
        assert not spooled(node)
        api = Api(node)
        _, begun = api.begin(db, content)
        upload = f"/databases/{db}/import/{begun['upload']}"
        assert api.ask("PUT", f"{upload}?offset=0", content[:1000])[0] == 200
        filler = disk / "filler"
        with open(filler, "wb") as file, pytest.raises(OSError):
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        code, body = api.ask("PUT", f"{upload}?offset=1000", content[1000:])
        assert code == 507 and "full" in body["error"], body
        filler.unlink()
        assert api.begin(db, content)[1]["received"] == 1000
        importing(cluster, path, db, node)
        cluster.same(db)


def test_without_a_majority(cluster, db, tmp_path):
    """bounded-answer: said in time, nothing is there; and it is finished when the others are back."""
    path = make(tmp_path / "a.db", *[FILL] * 20)
    node = cluster.leader()
    for other in cluster.followers():
        cluster.kill(other)
    refused(importing(cluster, path, db, node, check=False, deadline=100), TRY_AGAIN, "try again")
    assert node.position(db) is None
    assert len(spooled(node)) == 1, "what was sent is kept"
    cluster.heal()
    importing(cluster, path, db, node)
    cluster.same(db)
    assert not spooled(node)


@pytest.mark.parametrize("who", ["itself", "leader", "follower"])
def test_a_node_that_leaves_in_the_middle(cluster, db, tmp_path, who):
    """Killed while the database is brought in. Either it is there whole, or the command says that it is
    not: given again, it is there."""
    path = make(tmp_path / "a.db", *[FILL] * 100)
    leader, node, third = cluster.leader(), *cluster.followers()
    victim = {"itself": node, "leader": leader, "follower": third}[who]
    process = subprocess.Popen(
        [cluster.program, "import", path, db, "--dir", cluster.folder, "--node", node.name],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent,
    )  # fmt: skip
    staged = [other.folder / "data" / "staged" for other in (node, victim)]
    wait_for(
        lambda: process.poll() is not None or all(any(folder.iterdir()) for folder in staged),
        30, "the file on its way",
    )  # fmt: skip
    cluster.kill(victim)
    code = process.wait(90)
    cluster.heal()
    if code:
        assert code in (UNAVAILABLE, TRY_AGAIN), process.stderr.read()
        again = importing(cluster, path, db, node, check=False)
        assert again.returncode in (0, CANNOT_CREATE), again
    cluster.same(db)
    assert node.sql(db, "SELECT count(*) FROM t") == [[6000]]


def test_others_commit_while_a_large_one_comes_in(cluster, db, tmp_path, measured):
    """The log does not wait for the file."""
    busy = f"busy-{db}"
    cluster.create(busy, *LOG_SCHEMA)
    path = make(tmp_path / "a.db", *[FILL] * 300)
    node = cluster.followers()[0]
    with cluster.writing(busy, *cluster.nodes, timeout=20) as writers:
        importing(cluster, path, db, node, deadline=120)
    assert not any(writer.failures() for writer in writers)
    cluster.check_log(busy, writers)
    cluster.same(db)
    gap = max(writer.gap(0) for writer in writers)
    size = path.stat().st_size >> 20
    measured(f"import of {size} MiB beside three writers: their longest pause {gap * 1000:.0f} ms")


@pytest.mark.parametrize("where", ["leader", "follower"])
def test_an_export_beside_writers(cluster, db, tmp_path, where):
    """One position, sound; nobody waits for it, and nothing is left behind."""
    cluster.create(db, *LOG_SCHEMA, "CREATE TABLE t(id INTEGER PRIMARY KEY, b)", *[FILL] * 20)
    node = cluster.leader() if where == "leader" else cluster.followers()[0]
    with cluster.writing(db, *cluster.nodes) as writers:
        for number in range(3):
            before = {(w.who, k) for w in writers for k in w.acknowledged()} if number else set()
            node.barrier()
            path = tmp_path / f"{number}.db"
            told = json.loads(exporting(cluster, db, path, node).stdout)
            assert told["bytes"] == path.stat().st_size
            assert len(told["position"].split("/")) == 2
            assert count(path) == 1200
            copy = sqlite3.connect(path)
            rows = set(copy.execute("SELECT who, k FROM log"))
            assert copy.execute("SELECT n FROM counter").fetchone() == (len(rows),)
            assert before <= rows, "older than the barrier before it"
            copy.close()
    assert not any(writer.failures() for writer in writers)
    cluster.check_log(db, writers)
    # At rest its position is the database's, which names its bytes (one-history).
    position = cluster.settle(db)
    files = [tmp_path / f"at-rest-{other}.db" for other in cluster.nodes]
    for other, path in zip(cluster.nodes, files, strict=True):
        assert json.loads(exporting(cluster, db, path, other).stdout)["position"] == position
    assert len({path.read_bytes() for path in files}) == 1
    assert not list(tmp_path.glob("*.part"))


def test_export_and_import_again(cluster, db, tmp_path):
    """The same bytes, under another name."""
    cluster.create(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, b)", FILL)
    path = tmp_path / "out.db"
    exporting(cluster, db, path, cluster.followers()[0])
    copy = f"copy-{db}"
    told = json.loads(importing(cluster, path, copy, cluster.leader()).stdout)
    assert told["position"].split("/")[1] == cluster.settle(db).split("/")[1]
    assert cluster.leader().content(copy) == cluster.leader().content(db)


def test_export_replaces_nothing_unasked(cluster, db, tmp_path):
    cluster.create(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, b)", FILL)
    node = cluster.leader()
    path = tmp_path / "out.db"
    path.write_text("precious")
    refused(exporting(cluster, db, path, node, check=False), CANNOT_CREATE, "--force")
    assert path.read_text() == "precious"
    wal = tmp_path / "out.db-wal"
    wal.write_text("of another")
    refused(exporting(cluster, db, path, node, "--force", check=False), CANNOT_CREATE, str(wal))
    wal.unlink()
    exporting(cluster, db, path, node, "--force")
    assert count(path) == 60
    refused(
        exporting(cluster, "nowhere.db", tmp_path / "x", node, check=False), NO_INPUT, "nowhere.db"
    )
    refused(exporting(cluster, db, tmp_path / "no" / "x", node, check=False), CANNOT_CREATE, "no/x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.db"]


def test_export_to_a_full_disk(cluster, db, tmp_path):
    cluster.create(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, b)", *[FILL] * 20)
    with small_disk(tmp_path / "disk", "1m") as disk:
        done = exporting(cluster, db, disk / "out.db", cluster.leader(), check=False)
        refused(done, IO, "out.db", "space")
        assert not list(disk.iterdir()), "half a file is left"


def test_export_that_is_interrupted(cluster, db, tmp_path):
    """Ctrl-C, and a node that dies: nothing is left under the file's name, nor beside it."""
    cluster.create(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, b)", *[FILL] * 300)
    for how in ("ctrl-c", "node"):
        node = cluster.followers()[0]
        process = subprocess.Popen(
            [
                cluster.program, "export", db, tmp_path / "out.db",
                "--dir", cluster.folder, "--node", node.name,
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            preexec_fn=die_with_parent,
        )  # fmt: skip
        wait_for(
            lambda process=process: list(tmp_path.iterdir()) or process.poll() is not None,
            20, "its file",
        )  # fmt: skip
        cluster.pause(node)
        if how == "ctrl-c":
            process.send_signal(signal.SIGINT)
        else:
            cluster.kill(node)
        code = process.wait(30)
        if how == "ctrl-c":
            cluster.resume(node)
        else:
            node.paused = False
        cluster.heal()
        # It may have been through a moment before.
        assert code in (0, UNAVAILABLE, TRY_AGAIN), process.stderr.read()
        left = {path.name for path in tmp_path.iterdir()}
        assert left == (set() if code else {"out.db"}), left
        if code == 0:
            assert count(tmp_path / "out.db") == 18_000
            (tmp_path / "out.db").unlink()
