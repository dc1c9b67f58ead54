"""What an operator sees: /metrics by Prometheus' conventions, the manual, the dashboard and the alerts that
are made of it, systemd's status line, and a log that tells a failover in a few lines."""

import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest
import yaml
from devcluster import ROOT, die_with_parent, end_process, wait_for

DOCS = ROOT / "docs"

NAME = re.compile(r"\b(?:litefs_py|process)_[a-z_]+")
SAMPLE = re.compile(r"^([a-z_:]+)(?:\{(.*)\})? (-?[0-9.e+-]+|NaN|[+]Inf)$")
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')

# Prometheus' base units (https://prometheus.io/docs/practices/naming): no multiples of them.
NOT_BASE = (
    "milliseconds",
    "microseconds",
    "minutes",
    "hours",
    "kilobytes",
    "megabytes",
    "_ms",
    "percent",
)
# Labels and what they may say; a database's name is cut off at a thousand of them.
LABELS = {"outcome", "role", "member", "version", "database", "certificate", "le"}


class Metrics:
    """The text format 0.0.4, strictly."""

    def __init__(self, text):
        self.kinds, self.help, self.samples = {}, {}, []
        for line in text.splitlines():
            if line.startswith("# HELP "):
                name, self.help[name] = line[7:].split(" ", 1)[0], line[7:].partition(" ")[2]
            elif line.startswith("# TYPE "):
                name, kind = line[7:].split(" ")
                assert name not in self.kinds, f"{name} is there twice"
                self.kinds[name] = kind
            else:
                found = SAMPLE.match(line)
                assert found, f"no sample: {line!r}"
                name, labels, value = found.groups()
                self.samples.append((name, dict(LABEL.findall(labels or "")), float(value)))

    def family(self, sample):
        """Of a histogram, the samples have suffixes."""
        for suffix in ("_bucket", "_sum", "_count"):
            if self.kinds.get(sample.removesuffix(suffix)) == "histogram":
                return sample.removesuffix(suffix)
        return sample

    def value(self, name, **labels):
        found = [v for n, has, v in self.samples if n == name and labels.items() <= has.items()]
        assert len(found) == 1, f"{name} {labels}: {found}"
        return found[0]


def scrape(node):
    return Metrics(node.ask("/metrics")[1])


@pytest.fixture
def metrics(cluster, db):
    """Of a leader that has done something."""
    cluster.create(db, "CREATE TABLE t(x)", "INSERT INTO t VALUES (1)")
    return scrape(cluster.leader())


def test_the_conventions_of_prometheus(metrics):
    """What `promtool check metrics` asks for, and no label without bound."""
    names = {metrics.family(name) for name, _, _ in metrics.samples}
    assert names == set(metrics.kinds) == set(metrics.help)
    for name, kind in metrics.kinds.items():
        assert metrics.help[name].strip(), f"{name} has no help"
        assert re.fullmatch(r"(litefs_py|process)_[a-z_]+", name)
        assert (kind == "counter") == name.endswith("_total"), f"{name} is a {kind}"
        assert not any(unit in name for unit in NOT_BASE), f"{name}: use the base unit"
        assert kind in ("counter", "gauge", "histogram"), f"{name} is a {kind}"
    for name, labels, value in metrics.samples:
        assert set(labels) <= LABELS, f"{name} {labels}"
        assert value == value and value >= 0, f"{name} is {value}"
    seen = [(name, sorted(labels.items())) for name, labels, _ in metrics.samples]
    assert len(seen) == len({str(x) for x in seen}), "a series is there twice"


def test_the_numbers_are_true(cluster, metrics, db):
    leader = cluster.leader()
    assert sum(scrape(node).value("litefs_py_primary") for node in cluster.nodes) == 1
    assert metrics.value("litefs_py_raft_role", role="leader") == 1
    assert metrics.value("litefs_py_raft_role", role="follower") == 0
    assert metrics.value("litefs_py_members") == metrics.value("litefs_py_members_up") == 3
    assert metrics.value("litefs_py_quorum_age_seconds") < 1
    there = leader.databases()[db]
    assert metrics.value("litefs_py_database_txid", database=db) == int(there["position"][:16], 16)
    assert metrics.value("litefs_py_database_bytes", database=db) == 4096 * there["pages"]
    for node in cluster.nodes:
        wait_for(
            lambda n=node: scrape(n).value("litefs_py_database_lag_transactions", database=db) == 0
        )
    free = os.statvfs(leader.folder / "data")
    shown = metrics.value("litefs_py_disk_free_bytes")
    assert abs(shown - free.f_bavail * free.f_frsize) < 5e9
    two_years = metrics.value("litefs_py_certificate_expiry_timestamp_seconds", certificate="node")
    assert 700 * 86400 < two_years - time.time() < 740 * 86400
    assert abs(metrics.value("process_resident_memory_bytes") - leader.resident()) < 50e6
    assert 0 <= time.time() - metrics.value("process_start_time_seconds") < 600
    assert 3 < metrics.value("process_open_fds") < metrics.value("process_max_fds")


def test_openmetrics_for_who_asks(cluster):
    import http.client

    connection = http.client.HTTPConnection(cluster.leader().api.split("//")[1], timeout=5)
    connection.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text"})
    answer = connection.getresponse()
    assert answer.headers.get_content_type() == "application/openmetrics-text"
    assert answer.read().decode().endswith("# EOF\n")


def test_manual_dashboard_and_alerts_name_what_there_is(metrics):
    """Each name that they use exists; each metric is in the manual, and in the dashboard."""
    there = set(metrics.kinds)
    tables = "".join(
        x for x in (DOCS / "monitoring.md").read_text().splitlines(True) if x[0] == "|"
    )
    assert set(NAME.findall(tables)) == there
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
    targets = [t for panel in dashboard["panels"] for t in panel["targets"]]
    assert {metrics.family(n) for t in targets for n in NAME.findall(t["expr"])} == there
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["title"] and panel["gridPos"] for panel in dashboard["panels"])
    groups = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    for rule in rules:
        used = {metrics.family(name) for name in NAME.findall(rule["expr"])}
        assert used and used <= there, f"{rule['alert']}: {used - there}"
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description"}
    assert len({rule["alert"] for rule in rules}) == len(rules)


# The log


def told(node, since):
    """What it wrote at info and above since then; writes of other tests may still end in it."""
    lines = node.log()[since:].splitlines()
    return [line for line in lines if re.search(r" (INFO|WARN|ERROR) ", line)]


def beside_elections(lines):
    """On a machine with too much to do one may be followed by another, and each is told."""
    return [line for line in lines if " leads: " not in line]


def test_a_failover_is_told_in_a_few_lines(cluster, db):
    cluster.create(db, "PRAGMA journal_mode = wal", "CREATE TABLE t(x)")
    leader, survivors = cluster.leader(), cluster.followers()
    marks = {node: len(node.log()) for node in survivors}
    cluster.kill(leader)
    said = re.compile(f"n[1-3] leads: the process of {leader} died; no leader for [0-9]+ ms")
    # It may hear of the next one before it finds that out.
    lost = re.compile(f"{leader}(, the leader,)? is lost: its process has ended")
    logs = lambda: "".join(node.log()[marks[node] :] for node in survivors)  # noqa: E731
    wait_for(lambda: said.search(logs()), 10, "whoever took office to tell why")
    for node in survivors:
        wait_for(lambda n=node: " leads: " in n.log()[marks[n] :], 10, f"{node} to tell who leads")
        wait_for(lambda n=node: lost.search(n.log()[marks[n] :]), 10, f"{node} to tell why")
        lines = told(node, marks[node])
        assert len(beside_elections(lines)) <= 3, "\n".join(lines)
    cluster.restart(leader)
    for node in survivors:
        back = f"connected to {leader} again"
        wait_for(lambda n=node: back in n.log()[marks[n] :], 10, f"{node} to tell the end")
        lines = told(node, marks[node])
        assert len(beside_elections(lines)) <= 5, "\n".join(lines)


def test_a_lost_majority_is_told(cluster):
    node, others = cluster.nodes[0], cluster.nodes[1:]
    mark = len(node.log())
    for other in others:
        cluster.pause(other)
    wait_for(lambda: "no majority of the members answers" in node.log()[mark:], 15)
    for other in others:
        cluster.resume(other)
    wait_for(lambda: "a majority answers again" in node.log()[mark:], 15)


# systemd


class Systemd:
    """The socket that sd_notify(3) speaks of, and what came in by it."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.path, self.seen = str(path), []

    def read(self):
        self.socket.settimeout(0.01)
        try:
            while True:
                self.seen += self.socket.recv(65536).decode().splitlines()
        except TimeoutError:
            return self.seen

    def status(self):
        """The last line that `systemctl status` would show."""
        said = [x.removeprefix("STATUS=") for x in self.read() if x.startswith("STATUS=")]
        return said[-1] if said else ""


def test_systemd_is_told(make_cluster, tmp_path):
    """READY, a STATUS that follows what the node does, the watchdog, STOPPING."""
    cluster = make_cluster(nodes=1)
    config = cluster.nodes[0].folder / "config.yml"
    database = cluster.nodes[0].db("status.db")
    cluster.stop()
    systemd = Systemd(tmp_path / "notify")
    environment = os.environ | {"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "600000"}
    process = subprocess.Popen(
        [cluster.program, "node", "--config", config],
        env=environment,
        stderr=open(tmp_path / "log", "w"),
        preexec_fn=die_with_parent,
    )
    try:
        wait_for(lambda: "READY=1" in systemd.read(), 30, "READY")
        wait_for(lambda: systemd.status().startswith("primary, term "), 10, "the role")
        assert "1 of 1 members up, in step" in systemd.status()
        sqlite = ["sqlite3", database, "CREATE TABLE t(x)"]
        subprocess.run(sqlite, check=True, timeout=30)
        wait_for(lambda: re.search(r"; status\.db [1-9a-f]", systemd.status()), 10, "the position")
        pings = systemd.read().count("WATCHDOG=1")
        wait_for(lambda: systemd.read().count("WATCHDOG=1") > pings + 2, 10, "the watchdog")
        quiet = len([x for x in systemd.read() if x.startswith("STATUS=")])
        wait_for(lambda: systemd.read().count("WATCHDOG=1") > pings + 8, 10, "the watchdog")
        said = len([x for x in systemd.read() if x.startswith("STATUS=")])
        assert said - quiet <= 2, "nothing changes, so nothing is said"
    finally:
        process.send_signal(signal.SIGTERM)
        end_process(process)
    assert "STOPPING=1" in systemd.read()
