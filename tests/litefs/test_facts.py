"""What LiteFS itself does, as far as the daemon relies on it: each fact against the real program. If one
fails, LiteFS has changed, and what src/litefs makes of it has to be thought through again."""

import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import pytest
from bare import Bare, Consul, bare, position
from devcluster import wait_for

FOREIGN = {"Litefs-Id": "00000000006C6670"}


@pytest.fixture
def three(litefs, tmp_path):
    """A primary with a database, and two replicas."""
    with bare(litefs, tmp_path, nodes=3) as (consul, *nodes):
        with nodes[0].open("a.db") as db:
            db.execute("PRAGMA journal_mode = wal")
            db.execute("CREATE TABLE t(x)")
        together(nodes)
        yield consul, *nodes


def together(nodes, database="a.db"):
    def same():
        try:
            return len({position(node.mount, database) for node in nodes}) == 1
        except OSError:
            return False

    wait_for(same, 10, "one position")


def test_it_says_how_far_it_is_over_http(three):
    """`/debug/vars` has every position, as the mount has it; `/info` has the role and the number."""
    _, one, two, _ = three
    for node, primary in ((one, True), (two, False)):
        store = json.loads(node.ask("/debug/vars")[2])["store"]
        told = store["dbs"]["a.db"]
        assert f"{told['txid']}/{told['checksum']}" == position(node.mount, "a.db")
        _, headers, body = node.ask("/info")
        info = json.loads(body)
        assert info["isPrimary"] is primary and info["primary"]["hostname"] == "n1"
        assert info["clusterID"].startswith("LFSC")
        assert len(headers["Litefs-Id"]) == 16
    assert b"\nlitefs_lag_seconds " in two.ask("/metrics")[2]
    assert (Path(one.data) / "clusterid").read_text().strip() == info["clusterID"]


def test_the_name_of_an_ltx_file_is_its_transactions(three):
    """Its last file says the position: what a node is asked for while its LiteFS is down."""
    _, one, *_ = three
    files = sorted((one.data / "dbs/a.db/ltx").glob("*.ltx"))
    last = files[-1].stem.split("-")[1]
    assert position(one.mount, "a.db").startswith(last)
    head = files[-1].read_bytes()
    assert head[:4] == b"LTX1"
    checksum = head[-16:-8].hex()
    assert position(one.mount, "a.db") == f"{last}/{checksum}"


def test_404_on_a_renewal_ends_a_primary_at_once(three):
    consul, one, *_ = three
    consul.answer = lambda method, path, *_: (404, "") if "renew" in path else (200, "false")
    began = time.monotonic()
    wait_for(lambda: not one.is_primary(), 5, "the end of the primary")
    asked = [at for at, _, path, _ in consul.asked if "renew" in path and at > began]
    assert time.monotonic() - asked[0] < 0.5


@pytest.mark.parametrize("how", ["500", "silent"])
def test_how_long_a_primary_writes_on_without_a_renewal(litefs, tmp_path, how, measured):
    """At a TTL of 1 s: half of it and a second after the last good renewal, which src/litefs/timing.rs counts
    with. Where the call hangs, there is no end: it is why every call is answered."""
    with bare(litefs, tmp_path, ttl="1s") as (consul, one):
        db = one.open("a.db", timeout=0)
        db.execute("CREATE TABLE t(x)")
        hold = threading.Event()

        def answer(method, path, query, body):
            if "renew" not in path and "acquire" not in query:
                return None
            if how == "silent":
                hold.wait(30)
            return 500, "no"

        renewals = [at for at, _, path, _ in consul.asked if "renew" in path]
        wait_for(lambda: len([a for a in consul.asked if "renew" in a[2]]) > len(renewals), 5)
        last_good = [at for at, _, path, _ in consul.asked if "renew" in path][-1]
        consul.answer = answer
        last_write = time.monotonic()
        while time.monotonic() < last_good + 6:
            try:
                db.execute("INSERT INTO t VALUES (1)")
                last_write = time.monotonic()
            except sqlite3.Error:
                break
            time.sleep(0.01)
        hold.set()
        if how == "silent":
            assert last_write > last_good + 5.5
        else:
            measured(f"TTL 1 s, renewals answered 500: writes for {last_write - last_good:.2f} s")
            # And what the machine is late by.
            assert last_write - last_good < 1.5 + 0.5


def test_it_renews_each_half_of_its_time(litefs, tmp_path):
    with bare(litefs, tmp_path, ttl="2s") as (consul, _):
        wait_for(lambda: sum("renew" in path for _, _, path, _ in consul.asked) >= 4, 10)
        at = [at for at, _, path, _ in consul.asked if "renew" in path]
        gaps = [b - a for a, b in zip(at, at[1:], strict=False)]
        assert all(0.9 < gap < 1.5 for gap in gaps), gaps


def test_a_lease_that_is_dropped_is_taken_back_at_once(litefs, tmp_path):
    """So the facade gives it to its chosen node alone."""
    with bare(litefs, tmp_path, nodes=2) as (consul, one, two):
        before = len(consul.asked)
        with consul.lock:
            consul.sessions.clear()
            consul.holder = None
            consul.values.pop("litefs/primary")
        acquired = "acquire="
        wait_for(lambda: any(acquired in path for _, _, path, _ in consul.asked[before:]), 10)
        first = next(body for _, _, path, body in consul.asked[before:] if acquired in path)
        assert json.loads(first)["hostname"] in ("n1", "n2")
        wait_for(lambda: one.is_primary() or two.is_primary(), 10)


def test_a_halt_stops_writers_and_a_handoff_after_it_loses_nothing(three):
    """HALT by a foreign number; its answer is the position; the target takes the same session."""
    consul, one, two, three_ = three
    db = one.open("a.db", timeout=0)
    db.execute("INSERT INTO t VALUES (1)")
    status, _, body = one.ask("/halt?name=a.db&id=7", "POST", FOREIGN)
    assert status == 200, body
    told = json.loads(body)["pos"]
    at = f"{told['TXID']}/{told['PostApplyChecksum']}"
    with pytest.raises(sqlite3.Error):
        db.execute("INSERT INTO t VALUES (2)")
    wait_for(lambda: position(two.mount, "a.db") == at, 5, "the target's position")
    number = two.ask("/info")[1]["Litefs-Id"]
    assert one.ask(f"/handoff?nodeID={number}", "POST")[0] == 200
    two.primary()
    assert one.ask("/halt?name=a.db&id=7", "DELETE", FOREIGN)[0] == 200
    sessions = [path for _, _, path, _ in consul.asked if "acquire=" in path]
    assert sessions[0] == sessions[-1], "the session was handed over"
    db.close()
    two.open("a.db").execute("INSERT INTO t VALUES (3)")
    together([one, two, three_])
    assert two.open("a.db").execute("SELECT x FROM t").fetchall() == [(1,), (3,)]


def test_a_node_with_other_transactions_is_overwritten_silently(three):
    """Why the gate compares before LiteFS may attach."""
    consul, one, two, _ = three
    two.stop(signal.SIGKILL)
    with one.open("a.db") as db:
        db.execute("INSERT INTO t VALUES ('lost')")
    one.stop(signal.SIGKILL)
    with consul.lock:
        consul.sessions.clear()
        consul.holder = None
        consul.values.pop("litefs/primary", None)
    consul.answer = only("n2")
    two.start().primary(20)
    for number in range(3):
        with two.open("a.db") as db:
            db.execute("INSERT INTO t VALUES (?)", (number,))
    one.start()
    together([one, two])
    assert one.open("a.db").execute("SELECT count(*) FROM t").fetchone() == (3,)
    assert len(list((one.data / "dbs/a.db/ltx").glob("*.ltx"))) <= 2


def only(name):
    """The lease goes to this node alone."""

    def answer(method, path, query, body):
        if "acquire=" in query and json.loads(body)["hostname"] != name:
            return 200, "false"
        return None

    return answer


def test_exit_codes(litefs, tmp_path):
    """2: it does not take its configuration; 1: Consul refuses it."""
    bad = tmp_path / "bad.yml"
    bad.write_text(json.dumps({"nonsense": 1}))
    run = subprocess.run([litefs, "mount", "-config", bad], capture_output=True, timeout=20)
    assert run.returncode == 2, run
    said = subprocess.run([litefs, "version"], capture_output=True, text=True, timeout=20).stdout
    assert said.startswith("LiteFS ")


def test_the_configuration_is_not_expanded_and_json_is_yaml(litefs, tmp_path):
    """`-no-expand-env`: a dollar in a path is a dollar."""
    consul = Consul()
    node = Bare(litefs, tmp_path / "a$HOME b", consul)
    try:
        node.start().primary()
        assert "a$HOME b" in Path("/proc/self/mountinfo").read_text().replace("\\040", " ")
    finally:
        node.stop(signal.SIGKILL)
        consul.close()


def test_a_killed_litefs_leaves_its_mount(litefs, tmp_path):
    """It has to be taken away before the next start, for which `umount -l` is enough."""
    consul = Consul()
    node = Bare(litefs, tmp_path / "n1", consul).start().primary()
    try:
        node.process.kill()
        node.process.wait(10)
        with pytest.raises(OSError):
            os.listdir(node.mount)
        subprocess.run(["umount", "-l", node.mount], check=True, timeout=20)
        with consul.lock:
            consul.sessions.clear()
            consul.holder = None
            consul.values.pop("litefs/primary")
        node.start().primary()
    finally:
        node.stop(signal.SIGKILL)
        consul.close()
