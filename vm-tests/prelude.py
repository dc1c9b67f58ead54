# What the scenarios share. It stands before each, on NixOS too: its testScript is the line
# `ENGINE = "embedded"` or `"litefs"`, this file, and the scenario's. Nothing here but calls of the NixOS test
# driver, Python's own library and the machines.
import shlex

PORT = 4321
# With `engine: litefs` only the primary's machine writes, and what it had not sent yet is lost with it.
EVERYWHERE = ENGINE == "embedded"
# A writer of its own: each row a transaction, with a number that no other has; what was acknowledged goes to a
# file, what failed to another. Told that only the primary may, it waits where another node is that.
WRITER = """
import os, signal, sqlite3, sys, time
name, database = sys.argv[1], sys.argv[2]
elsewhere = os.path.join(os.path.dirname(database), ".primary") if "primary" in sys.argv[3:] else ""
going = True
def stop(*_):
    global going
    going = False
signal.signal(signal.SIGTERM, stop)
acked, failed = open("/root/acked", "a"), open("/root/failed", "a")
number, connection = time.time_ns() // 1000, None
while going:
    if os.path.exists(elsewhere):
        time.sleep(0.05)
        continue
    number += 1
    try:
        if connection is None:
            connection = sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=20, isolation_level=None)
        connection.execute("insert into written values (?, ?)", (name, number))
        print(number, file=acked, flush=True)
    except sqlite3.Error as error:
        print(number, error, file=failed, flush=True)
        connection = None
        time.sleep(0.05)
    time.sleep(0.01)
"""


def address(machine):
    return f"192.168.1.{machine.name[1:]}"


def sql(machine, statement, database="app.db"):
    """What SQLite's own shell prints."""
    shell = "timeout 50 sqlite3 -bail -cmd '.timeout 20000'"
    return machine.succeed(
        f"{shell} /litefs/{database} {shlex.quote(statement)}", timeout=60
    ).strip()


def ready(machine, timeout=60):
    machine.wait_until_succeeds("curl -sf -m 5 http://127.0.0.1:8008/readiness", timeout=timeout)


def choose_engine(machine):
    """What a configuration that was just written has is the default."""
    if ENGINE != "embedded":
        machine.succeed(f"echo 'engine: {ENGINE}' >> /etc/litefs-py/config.yml")


def begin(machine):
    machine.succeed(
        f"litefs-py init --cluster app --name {machine.name} --address {address(machine)}:{PORT}"
    )
    choose_engine(machine)
    machine.succeed("systemctl start litefs-py", timeout=60)
    ready(machine)


def join(machine, by, options=""):
    """By a token that `by` makes; until it votes."""
    token = by.wait_until_succeeds("litefs-py token create", timeout=30).strip()
    machine.succeed(
        f"litefs-py join {token} --server {address(by)}:{PORT} --name {machine.name} "
        f"--address {address(machine)}:{PORT} {options}"
    )
    choose_engine(machine)
    machine.succeed("systemctl restart litefs-py", timeout=60)
    ready(machine)
    by.wait_until_succeeds(
        f"litefs-py member list | grep -w {machine.name} | grep -Ew 'voter|leader'", timeout=60
    )


def form(*nodes):
    for node in nodes:
        node.wait_for_unit("multi-user.target", timeout=120)
    begin(nodes[0])
    for node in nodes[1:]:
        join(node, nodes[0])
    write(*nodes, statement="create table written(name, number, primary key (name, number))")


def write(*nodes, statement):
    """One statement, once, on one of all nodes that takes it."""
    sql(may_write(*nodes)[0], statement)


def leader(*nodes):
    """Whoever of them leads."""
    found = []

    def look(_last):
        found[:] = [
            node
            for node in nodes
            if node.execute("curl -sf -m 5 http://127.0.0.1:8008/primary", timeout=10)[0] == 0
        ]
        return len(found) == 1

    retry(look, timeout_seconds=30)
    return found[0]


def load(*nodes):
    """Begins to write on each that may, until `stop_load`."""
    if not EVERYWHERE:
        lead_among(nodes)
    for node in nodes:
        node.succeed(
            f"cat > /root/writer.py <<'END'\n{WRITER}\nEND\nrm -f /root/acked /root/failed",
            "touch /root/acked /root/failed",
        )
        # LiteFS that ends beneath an open database can end its program too (SIGBUS).
        node.succeed(
            "systemd-run --unit=writer -p Restart=on-failure -p RestartSec=100ms "
            f'"$(command -v python3)" /root/writer.py {node.name} /litefs/app.db '
            + ("" if EVERYWHERE else "primary")
        )
    for node in nodes if EVERYWHERE else [leader(*nodes)]:
        node.wait_until_succeeds("test -s /root/acked", timeout=30)


def may_write(*nodes):
    """Whoever of all nodes takes writes."""
    return list(nodes) if EVERYWHERE else [leader(*nodes)]


def sees(node, query, wanted):
    """What others wrote is there: at once after a barrier; LiteFS has none."""
    if EVERYWHERE:
        node.wait_until_succeeds("litefs-py barrier", timeout=60)
    told = []

    def there(_last):
        told.append(sql(node, query))
        return told[-1] == wanted

    try:
        retry(there, timeout_seconds=1 if EVERYWHERE else 30)
    finally:
        t.assertEqual(told[-1], wanted, f"{node.name}: {query}")


def lead_among(nodes):
    """One of them leads: else none of their writers would write."""
    if not any(
        node.execute("curl -sf -m 5 http://127.0.0.1:8008/primary", timeout=10)[0] == 0
        for node in nodes
    ):
        nodes[0].succeed(f"litefs-py switchover --to {nodes[0].name}", timeout=60)
        leader(*nodes)


def more(node, rows=20, timeout=60):
    """Waits until so many more rows: of its own writer, which were acknowledged; where only the primary
    writes, of anybody's, which it has."""
    count = (
        "wc -l < /root/acked"
        if EVERYWHERE
        else "timeout 20 sqlite3 -bail -cmd '.timeout 5000' /litefs/app.db 'select count(*) from written'"
    )
    now = int(node.wait_until_succeeds(count, timeout=timeout))
    node.wait_until_succeeds(f"test $({count}) -ge {now + rows}", timeout=timeout)


def stop_load(*nodes):
    """What was acknowledged, of each node's writer, and what failed."""
    acked, failed = {}, {}
    for node in nodes:
        node.execute("systemctl stop writer", timeout=60)
        acked[node.name] = {int(number) for number in node.succeed("cat /root/acked").split()}
        failed[node.name] = node.succeed("cat /root/failed").splitlines()
    return acked, failed


def none_failed(failed):
    """No statement failed. LiteFS refuses some while the primary changes; each was an error, none was lost."""
    if EVERYWHERE:
        t.assertEqual(failed, {name: [] for name in failed})


def one_after_the_other(change, acked, *nodes):
    """Changes each node's program under load on the others, none of whose statements fails; adds to `acked` what was
    acknowledged. All of it is there."""
    for node in nodes:
        others = [other for other in nodes if other is not node]
        load(*others)
        runs = node.get_unit_property("litefs-py", "MainPID")
        change(node)
        ready(node)
        t.assertEqual(node.get_unit_property("litefs-py", "MainPID") == runs, False)
        for other in others:
            more(other, rows=5)
        wrote, failed = stop_load(*others)
        none_failed(failed)
        for name, numbers in wrote.items():
            acked.setdefault(name, set()).update(numbers)
    nothing_lost(acked, *nodes)


def contents(*nodes):
    """Of each node, the rows by their writers. They must be the same everywhere, and whole (converges)."""
    seen = {}

    def same(_last):
        for node in nodes:
            if EVERYWHERE:
                node.wait_until_succeeds("litefs-py barrier", timeout=60)
            rows = sql(node, "select name, number from written order by name, number").split()
            seen[node.name] = [row.split("|") for row in rows]
        return all(seen[node.name] == seen[nodes[0].name] for node in nodes)

    # LiteFS has no barrier: what was sent arrives a little later.
    retry(same, timeout_seconds=1 if EVERYWHERE else 30)
    nodes[0].wait_until_succeeds("litefs-py check", timeout=60)
    return seen[nodes[0].name]


def nothing_lost(acked, *nodes):
    """No-lost-ack and converges: every node has each row that was acknowledged, and all have the same."""
    rows = contents(*nodes)
    for name, numbers in acked.items():
        lost = numbers - {int(number) for writer, number in rows if writer == name}
        t.assertEqual(lost, set(), f"acknowledged rows of {name} are lost")
    return len(rows)


def nothing_lost_but(hit, acked, *nodes):
    """The same after a fault. Where replication is asynchronous, the last rows of a primary that was hit may
    be lost; nobody else's."""
    spared = [] if EVERYWHERE else [node.name for node in hit]
    kept = nothing_lost(
        {name: numbers for name, numbers in acked.items() if name not in spared}, *nodes
    )
    for name in spared:
        print(f"{name} was hit: {len(acked.get(name, ()))} of its rows were acknowledged")
    return kept
