# What the scenarios share. It stands before each, on NixOS too: its testScript is this file and the
# scenario's. Nothing here but calls of the NixOS test driver, Python's own library and the machines.
import shlex

PORT = 4321
# A writer of its own: each row a transaction, numbered; what was acknowledged goes to a file, what failed
# to another.
WRITER = """
import os, signal, sqlite3, sys, time
name, database = sys.argv[1], sys.argv[2]
going = True
def stop(*_):
    global going
    going = False
signal.signal(signal.SIGTERM, stop)
acked, failed = open("/root/acked", "a"), open("/root/failed", "a")
number, connection = 0, None
while going:
    number += 1
    try:
        if connection is None:
            connection = sqlite3.connect(database, timeout=20, isolation_level=None)
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


def begin(machine):
    machine.succeed(
        f"litefs-py init --cluster app --name {machine.name} --address {address(machine)}:{PORT}"
    )
    machine.succeed("systemctl start litefs-py", timeout=60)
    ready(machine)


def join(machine, by, options=""):
    """By a token that `by` makes; until it votes."""
    token = by.wait_until_succeeds("litefs-py token create", timeout=30).strip()
    machine.succeed(
        f"litefs-py join {token} --server {address(by)}:{PORT} --name {machine.name} "
        f"--address {address(machine)}:{PORT} {options}"
    )
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
    sql(nodes[0], "create table written(name, number, primary key (name, number))")


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
    """Begins to write on each, until `stop_load`."""
    for node in nodes:
        node.succeed(
            f"cat > /root/writer.py <<'END'\n{WRITER}\nEND\nrm -f /root/acked /root/failed"
        )
        node.succeed(
            f'systemd-run --unit=writer "$(command -v python3)" /root/writer.py {node.name} /litefs/app.db'
        )
        node.wait_until_succeeds("test -s /root/acked", timeout=30)


def more(node, rows=20, timeout=60):
    """Waits until so many more were acknowledged."""
    now = int(node.succeed("wc -l < /root/acked"))
    node.wait_until_succeeds(f"test $(wc -l < /root/acked) -ge {now + rows}", timeout=timeout)


def stop_load(*nodes):
    """What was acknowledged, of each node's writer, and what failed."""
    acked, failed = {}, {}
    for node in nodes:
        node.execute("systemctl stop writer", timeout=60)
        acked[node.name] = {int(number) for number in node.succeed("cat /root/acked").split()}
        failed[node.name] = node.succeed("cat /root/failed").splitlines()
    return acked, failed


def nothing_lost(acked, *nodes):
    """No-lost-ack and converges: every node has each row that was acknowledged, and all have the same."""
    seen = {}
    for node in nodes:
        node.wait_until_succeeds("litefs-py barrier", timeout=60)
        rows = [row.split("|") for row in sql(node, "select name, number from written").split()]
        for name, numbers in acked.items():
            lost = numbers - {int(number) for writer, number in rows if writer == name}
            t.assertEqual(lost, set(), f"{node.name} lacks acknowledged rows of {name}")
        seen[node.name] = len(rows)
    t.assertEqual(len(set(seen.values())), 1, f"the nodes differ: {seen}")
    nodes[0].succeed("litefs-py check", timeout=60)
    return seen
