"""`litefs-py status --watch`: in place on a terminal, a line a second elsewhere, and an end."""

import os
import pty
import re
import select
import signal
import subprocess
import time
from contextlib import contextmanager

from devcluster import die_with_parent, end_process, wait_for


@contextmanager
def watching(cluster, output, *arguments):
    command = [cluster.program, "status", "--watch", "--dir", cluster.folder, *arguments]
    process = subprocess.Popen(
        command, stdout=output, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent
    )
    try:
        yield process
    finally:
        process.kill()
        end_process(process)


def interrupt(process):
    """Ctrl-C. How it ended, and what it complained of."""
    process.send_signal(signal.SIGINT)
    code = end_process(process, 10)
    return code, process.stderr.read()


def test_on_a_terminal_it_is_drawn_in_place(cluster, db):
    cluster.create(db, "PRAGMA journal_mode = wal", "CREATE TABLE t(x)")
    main, terminal = pty.openpty()
    with cluster.followers()[0].client(db) as client:
        client.run("BEGIN IMMEDIATE")
        with watching(cluster, terminal) as process:
            os.close(terminal)
            text = ""
            end = time.monotonic() + 20
            while text.count("\x1b[H") < 3 and time.monotonic() < end:
                if select.select([main], [], [], 1)[0]:
                    text += os.read(main, 65536).decode()
            assert interrupt(process) == (0, "")
    os.close(main)
    pages = text.split("\x1b[H")
    assert pages[0] == "" and len(pages) >= 3, "each is drawn over the one before"
    page = pages[2]
    assert "\x1b[2J" not in text, "nothing flickers"
    assert page.endswith("\x1b[J") or page.rstrip("\r\n").endswith("\x1b[J")
    for word in (
        "cluster dev, node",
        "MATCHED",
        "POSITION",
        "WRITER",
        db,
        "last change of the leader",
    ):
        assert word in page, page
    holder = cluster.followers()[0].name
    assert any(db in line and holder in line for line in page.splitlines()), page


def test_elsewhere_a_line_a_second(cluster, db):
    cluster.create(db, "CREATE TABLE t(x)")
    with watching(cluster, subprocess.PIPE) as process:
        lines = [process.stdout.readline() for _ in range(3)]
        assert interrupt(process) == (0, "")
    shape = r"\d{4}-\d\d-\d\d [0-9:.]+Z n\d (primary|replica), term \d+, leader n\d, quorum ok, 3 of 3 up, "
    for line in lines:
        assert re.match(shape, line) and "\x1b" not in line, line
        assert f"{db} " in line


def test_it_ends_when_nobody_reads(cluster):
    with watching(cluster, subprocess.PIPE, "--json") as process:
        assert process.stdout.readline().startswith("{")
        process.stdout.close()
        wait_for(lambda: process.poll() is not None, 10, "its end")
        assert process.returncode == 0


def test_it_goes_on_while_the_node_is_away(cluster):
    node = cluster.nodes[2]
    with watching(cluster, subprocess.PIPE, "--node", node.name) as process:
        assert "term" in process.stdout.readline()
        cluster.kill(node)
        wait_for(
            lambda: "cannot reach the node" in process.stdout.readline(), 20, "that it is gone"
        )
        cluster.restart(node)
        wait_for(lambda: "term" in process.stdout.readline(), 20, "that it is back")
        assert interrupt(process)[0] == 0
