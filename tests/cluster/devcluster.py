"""A cluster on this machine: `litefs-py dev` in a folder, its nodes, and applications on their mounts.

For the tests, `demo/` and `bench/`. Standard library only. This process itself never touches a
mount: a daemon that hangs would hang it too, beyond any time limit. Processes on the mount do, and
every wait for them has a deadline; past it `Hung` is raised, which is a broken promise
(bounded-answer), not a slow machine.
"""

import ctypes
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIENT = Path(__file__).with_name("client.py")

# SQLite's busy timeout, seconds, unless a test says otherwise.
BUSY = 5.0
# Longer than any operation may take: commit_timeout is 15 s by default.
LONG = 30.0


class Hung(Exception):
    """A process on the mount gave no answer in time (bounded-answer)."""


class SqlError(Exception):
    """SQLite said no. `name`: such as SQLITE_BUSY; `seconds`: how long it took to say so."""

    def __init__(self, answer):
        super().__init__(f"{answer['name']}: {answer['error']}")
        self.name, self.message, self.seconds = answer["name"], answer["error"], answer["seconds"]

    @property
    def busy(self):
        return "BUSY" in self.name or "locked" in self.message


def wait_for(condition, deadline=10.0, what=""):
    """What `condition` answers, once it is true."""
    end = time.monotonic() + deadline
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError(
                f"not within {deadline} s: {what or condition.__doc__ or condition}"
            )
        time.sleep(0.01)
    return result


def die_with_parent():
    """prctl(PR_SET_PDEATHSIG, SIGTERM): no cluster outlives whoever started it."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def run(*command, deadline=LONG, check=True, **options):
    """A program that may touch the mount. Never waits for it beyond the deadline, even in D state."""
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        out, err = process.communicate(timeout=deadline)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Hung(f"{command} gave no answer in {deadline} s") from None
    except BaseException:
        # Whoever is ended while it waits leaves nobody behind who holds the mount.
        process.kill()
        raise
    if check and process.returncode:
        raise AssertionError(f"{command} ended with {process.returncode}: {out}{err}")
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def shell(database, *commands, deadline=LONG, check=True, timeout=BUSY):
    """The sqlite3 shell; its busy timeout and then each command."""
    return run(
        "sqlite3", "-bail", "-cmd", f".timeout {int(timeout * 1000)}", database, *commands,
        deadline=deadline, check=check,
    )  # fmt: skip


class Client:
    """A Python application with one connection that stays open."""

    def __init__(self, database, timeout=BUSY):
        self.process = subprocess.Popen(
            [sys.executable, CLIENT, "serve", str(database), str(timeout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        self.unread = b""

    def start(self, **request):
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def finish(self, deadline=LONG):
        """The rows; or raises SqlError, or Hung."""
        end = time.monotonic() + deadline
        while b"\n" not in self.unread:
            left = max(0, end - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
                raise Hung(f"no answer in {deadline} s")
            more = os.read(self.process.stdout.fileno(), 1 << 20)
            if not more:
                raise AssertionError(f"the client ended ({self.process.wait(5)})")
            self.unread += more
        line, _, self.unread = self.unread.partition(b"\n")
        answer = json.loads(line)
        self.seconds = answer["seconds"]
        if "error" in answer:
            raise SqlError(answer)
        return answer["rows"]

    def run(self, sql, *args, deadline=LONG):
        self.start(sql=sql, args=args)
        return self.finish(deadline)

    def one(self, sql, *args, deadline=LONG):
        """The first column of the first row."""
        return self.run(sql, *args, deadline=deadline)[0][0]

    def kill(self):
        self.process.kill()
        end_process(self.process)

    def close(self):
        self.process.stdin.close()
        end_process(self.process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def end_process(process, deadline=LONG):
    try:
        return process.wait(deadline)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Hung(f"process {process.pid} does not end: it waits for the mount") from None


# What a Writer does unless it is told otherwise: a row that nobody else writes.
INSERT = "INSERT INTO log(who, k) VALUES (:who, :k)"


class Writer:
    """An application that writes as fast as it can, and keeps a log of what was answered."""

    def __init__(self, database, who, log, timeout=BUSY, pause=0, statement=None):
        self.who, self.log = who, Path(log)
        arguments = [database, timeout, who, log, pause, statement or INSERT]
        self.process = subprocess.Popen(
            [sys.executable, CLIENT, "write", *map(str, arguments)], preexec_fn=die_with_parent
        )

    def lines(self):
        """(what, k, time, why). The last line may be cut off when the writer was killed."""
        text = self.log.read_text() if self.log.exists() else ""
        for line in text[: text.rfind("\n") + 1].splitlines():
            what, k, when, *why = line.split(" ", 3)
            yield what, int(k), float(when), "".join(why)

    def acknowledged(self):
        return {k for what, k, _, _ in self.lines() if what == "+"}

    def failures(self):
        return [(k, why) for what, k, _, why in self.lines() if what == "-"]

    def unknown(self):
        """Begun, and neither acknowledged nor plainly refused: BUSY is the only plain refusal."""
        asked, told = set(), set()
        for what, k, _, why in self.lines():
            if what == "?":
                asked.add(k)
            elif what == "+" or "BUSY" in why or "locked" in why:
                told.add(k)
        return asked - told

    def after(self, moment):
        """How many were acknowledged after this time."""
        return sum(1 for what, _, when, _ in self.lines() if what == "+" and when > moment)

    def gap(self, moment):
        """The longest time without an acknowledged row, of those that end after `moment`."""
        times = [when for what, _, when, _ in self.lines() if what == "+"]
        pairs = zip(times, times[1:], strict=False)
        return max((b - a for a, b in pairs if b > moment), default=float("inf"))

    def stop(self, deadline=LONG):
        if self.process.poll() is None:
            self.process.terminate()
        end_process(self.process, deadline)

    def kill(self):
        self.process.kill()
        end_process(self.process)


# What Writer writes into. The trigger makes each row an increment of the counter in the same
# transaction: a lost update shows as a counter below the number of rows.
LOG_SCHEMA = (
    "CREATE TABLE log(who TEXT, k INTEGER, PRIMARY KEY(who, k)) WITHOUT ROWID",
    "CREATE TABLE counter(n INTEGER)",
    "INSERT INTO counter VALUES (0)",
    "CREATE TRIGGER t AFTER INSERT ON log BEGIN UPDATE counter SET n = n + 1; END",
)


class UnixConnection(http.client.HTTPConnection):
    """HTTP through a Unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Node:
    """One node of the cluster. Its process changes with each restart, the rest stays."""

    def __init__(self, folder, told):
        self.name, self.pid = told["name"], told["pid"]
        self.mount, self.api = Path(told["mount"]), told["api"]
        self.folder = folder / self.name
        self.killed = self.paused = False

    def __repr__(self):
        return self.name

    def db(self, name):
        return str(self.mount / name)

    def ask(self, path, method="GET", timeout=2.0):
        """(status code, JSON); (0, None) when nobody answers."""
        connection = http.client.HTTPConnection(self.api.split("//")[1], timeout=timeout)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, None
        finally:
            connection.close()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(body) if is_json else body

    def by_socket(self, path, method="GET", body=None, timeout=10.0):
        """The same by the Unix socket, which needs no token; `body` is sent as JSON, or as the bytes
        that it is. What is neither JSON nor text is answered as bytes."""
        connection = UnixConnection(self.folder / "api.sock", timeout)
        try:
            plain = body is None or isinstance(body, bytes)
            connection.request(method, path, body if plain else json.dumps(body))
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        kind = response.headers.get_content_type()
        if kind == "application/json" and answer:
            return response.status, json.loads(answer)
        return response.status, answer.decode() if kind.startswith("text/") else answer

    def is_primary(self):
        return self.ask("/primary")[0] == 200

    def is_ready(self):
        return self.ask("/readiness")[0] == 200

    def barrier(self, seconds=10):
        code, body = self.ask(f"/barrier?timeout={seconds}s", "POST", timeout=seconds + 5)
        assert code == 200, f"barrier on {self.name}: {code} {body}"

    def databases(self):
        code, body = self.ask("/databases")
        return {database["name"]: database for database in body} if code == 200 else {}

    def position(self, name):
        return self.databases().get(name, {}).get("position")

    def term(self):
        return self.ask("/cluster")[1]["term"]

    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def client(self, name, timeout=BUSY):
        return Client(self.db(name), timeout)

    def sql(self, name, *statements, timeout=BUSY, deadline=LONG):
        """Runs them on a connection of their own; the rows of the last."""
        with self.client(name, timeout) as client:
            for statement in statements:
                rows = client.run(statement, deadline=deadline)
            client.close()
            return rows

    def content(self, name):
        """A hash of all that a reader sees here, which must be sound."""
        with self.client(name) as client:
            checked = client.run("PRAGMA integrity_check")
            assert checked == [["ok"]], f"{name} on {self}: {checked}"
            client.start(hash=True)
            return client.finish()

    def resident(self):
        """Memory, bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def most_resident(self):
        """The most memory that it ever had, bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def cpu(self):
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Cluster:
    """`litefs-py dev` in a folder. Killing and pausing is by signals to the nodes' processes."""

    def __init__(self, folder, nodes=3, program=None, settings=None, user=None):
        """`settings`: lines of each node's configuration to replace, before the first start.
        `user`: number of the user and group to be, instead of root."""
        self.folder, self.count = Path(folder).resolve(), nodes
        self.program = Path(program or os.environ.get("LITEFS_PY", ROOT / "target/debug/litefs-py"))
        self.settings = settings or {}
        self.user = {"user": user, "group": user, "extra_groups": []} if user else {}
        self.nodes, self.dev = [], None

    def dev_output(self):
        return (self.folder.with_suffix(".dev.log")).read_text(errors="replace")

    def spawn(self):
        with open(self.folder.with_suffix(".dev.log"), "a") as output:
            self.dev = subprocess.Popen(
                [self.program, "dev", "--dir", self.folder, "--nodes", str(self.count)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
                **self.user,
            )

    def start(self, deadline=60):
        made = self.folder / "dev.json"
        if self.settings and not made.exists():
            self.spawn()
            wait_for(lambda: made.exists() or self.dev.poll() is not None, deadline, "dev.json")
            self.stop()
            self.configure(self.settings)
        self.spawn()
        ready = self.folder / "ready.json"

        def is_ready():
            if self.dev.poll() is not None:
                raise AssertionError(f"litefs-py dev ended: {self.dev_output()}")
            return ready.exists()

        wait_for(is_ready, deadline, "ready.json")
        self.nodes = [Node(self.folder, told) for told in self.told()]
        return self

    def told(self):
        return json.loads((self.folder / "ready.json").read_text())["nodes"]

    def configure(self, settings):
        for config in self.folder.glob("n*/config.yml"):
            text = config.read_text()
            for old, new in settings.items():
                assert old in text, f"{config} has no line {old!r}"
                text = text.replace(old, new)
            config.write_text(text)

    def stop(self):
        """All nodes, as Ctrl-C does. Answers the exit code of `dev`."""
        for node in self.nodes:
            self.resume(node)
        if self.dev is None:
            return None
        self.dev.terminate()
        try:
            return self.dev.wait(60)
        except subprocess.TimeoutExpired:
            self.dev.kill()
            raise Hung("litefs-py dev did not stop") from None
        finally:
            self.dev, self.nodes = None, []

    def command(self, *arguments, check=True, deadline=LONG):
        return run(self.program, *arguments, check=check, deadline=deadline)

    # Nodes

    def node(self, name):
        return next(node for node in self.nodes if node.name == name)

    def running(self):
        return [node for node in self.nodes if not node.killed and not node.paused]

    def primaries(self):
        return [node for node in self.running() if node.is_primary()]

    def leader(self, deadline=15):
        """The one node that is primary."""
        return wait_for(self.primaries, deadline, "a primary")[0]

    def followers(self):
        leader = self.leader()
        return [node for node in self.running() if node is not leader]

    # Faults

    def kill(self, node, how=signal.SIGKILL):
        """SIGKILL, or SIGTERM for a clean stop. Returns when the process is gone."""
        os.kill(node.pid, how)
        node.killed = True
        wait_for(lambda: not is_alive(node.pid), 30, f"the end of {node}")

    def pause(self, node):
        os.kill(node.pid, signal.SIGSTOP)
        node.paused = True

    def resume(self, node):
        if node.paused:
            os.kill(node.pid, signal.SIGCONT)
            node.paused = False

    def restart(self, node, deadline=60):
        """Stops it in order if it still runs, starts it, and waits until it is ready."""
        self.resume(node)
        self.command("dev", "--dir", self.folder, "restart", node.name, deadline=deadline)
        node.pid = next(told["pid"] for told in self.told() if told["name"] == node.name)
        node.killed = False

    def heal(self, deadline=60):
        """Everybody runs, there is a primary, all are ready."""
        for node in self.nodes:
            self.resume(node)
        for node in self.nodes:
            if node.killed or not is_alive(node.pid):
                self.restart(node, deadline)
        wait_for(lambda: all(node.is_ready() for node in self.nodes), deadline, "all nodes ready")
        self.leader()

    # What has to be the same everywhere

    def create(self, name, *statements, on=None):
        """A database, made on one node and there on all."""
        (on or self.leader()).sql(name, *statements)
        self.settle(name)

    def settle(self, name, deadline=20):
        """Waits until all running nodes are at the same position; answers it (converges)."""

        def positions():
            found = {node.position(name) for node in self.running()}
            return found.pop() if len(found) == 1 and None not in found else None

        return wait_for(positions, deadline, f"one position of {name} on all nodes")

    def same(self, name, deadline=20):
        """Settles, checks the integrity on each node, and that all readers see the same."""
        self.settle(name, deadline)
        contents = {node.name: node.content(name) for node in self.running()}
        assert len(set(contents.values())) == 1, f"{name} differs: {contents}"
        self.settle(name, deadline)

    def check_log(self, name, writers):
        """No acknowledged row is missing, no row came from nowhere, no increment was lost
        (no-lost-ack, one-history). Answers the number of rows."""
        self.same(name)
        rows = self.running()[0].sql(name, "SELECT who, k FROM log")
        there = {(who, k) for who, k in rows}
        acknowledged = {(w.who, k) for w in writers for k in w.acknowledged()}
        unknown = {(w.who, k) for w in writers for k in w.unknown()}
        missing = acknowledged - there
        assert not missing, f"{len(missing)} acknowledged rows are missing: {sorted(missing)[:5]}"
        strange = {row for row in there if row[0] in {w.who for w in writers}}
        strange -= acknowledged | unknown
        assert not strange, f"{len(strange)} rows were refused and are there: {sorted(strange)[:5]}"
        # In one statement: the last transaction of a dead leader may be committed between two.
        both = "SELECT n, (SELECT count(*) FROM log) FROM counter"
        ((count, counted),) = self.running()[0].sql(name, both)
        assert count == counted, f"the counter says {count}, there are {counted} rows"
        return count

    @contextmanager
    def writing(self, name, *nodes, **options):
        """Writers on these nodes, until the end of the block; each has written before it begins."""
        writers = []
        for number, node in enumerate(nodes):
            who = f"{node.name}.{number}.{time.time_ns()}"
            writers.append(Writer(node.db(name), who, self.folder / f"writer-{who}", **options))
        try:
            wait_for(
                lambda: all(w.acknowledged() for w in writers), LONG, "every writer's first row"
            )
            yield writers
        except BaseException:
            for writer in writers:
                writer.process.kill()
            raise
        for writer in writers:
            writer.stop()

    # What must not stay

    def leftovers(self):
        """Mounts and processes of this cluster that are still there."""
        found = [f"mount {path}" for path in mounts_below(self.folder)]
        return found + [f"process {pid}: {line}" for pid, line in processes_of(self.folder)]

    def clear(self):
        """After a failure: ends what is left by force."""
        if self.dev is not None:
            for node in self.nodes:
                self.resume(node)
            self.dev.kill()
            self.dev.wait(30)
            self.dev = None
        for pid, _ in processes_of(self.folder):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for path in reversed(mounts_below(self.folder)):
            subprocess.run(["umount", "-l", path], check=False, timeout=30)


def is_alive(pid):
    """A zombie counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def mounts_below(folder):
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].replace("\\040", " ") for line in lines]
    return [point for point in points if point.startswith(f"{folder}/")]


def processes_of(folder):
    """Daemons and clients that have a path of this folder on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{folder}" in line and is_alive(int(entry.name)):
            found.append((int(entry.name), line.strip()))
    return found
