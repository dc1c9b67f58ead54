"""Requests to servers on several nodes: what was written is read anywhere; what fails, fails well."""

import concurrent.futures
import os
import signal
import time
from pathlib import Path

import httpx
from litefs_py import Token
from litefs_py.cluster import wait_for
from litefs_py.domain import cookie


def add_and_count(one, other, rounds, prefix=""):
    """A browser that writes here and reads there, which keeps cookies by the host and not by the port."""
    with httpx.Client() as browser:
        before = int(browser.get(f"{other}{prefix}/count").text)
        for number in range(1, rounds + 1):
            assert browser.get(f"{one}{prefix}/add/x").status_code == 200
            assert "litefs_position" in browser.cookies
            assert int(browser.get(f"{other}{prefix}/count").text) >= before + number


def test_who_wrote_reads_it_on_another_node(migrated):
    first, second = migrated.cluster.nodes[:2]
    with migrated.served(first) as one, migrated.served(second) as other:
        add_and_count(one, other, 40)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(add_and_count, one, other, 10) for _ in range(4)]:
                done.result()
        with httpx.Client() as browser:
            seen = [browser.get(f"{url}/session").text for url in (one, other, one, other)]
        assert seen == ["1", "2", "3", "4"]


def test_a_request_waits_for_its_position(migrated):
    """The transaction that the cookie names is made while the request waits for it."""
    first, second = migrated.cluster.nodes[:2]
    txid = first.mount.position(migrated.database).txid + 1
    value = cookie.sign(Token({migrated.database: txid}), b"k" * 50, time.time())
    with (
        migrated.served(second, WAIT_TIMEOUT=60) as url,
        migrated.served(first) as other,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        headers = {"cookie": f"litefs_position={value}"}
        waits = pool.submit(httpx.get, f"{url}/count", headers=headers, timeout=90)
        assert httpx.get(f"{url}/count").text == "0"
        assert not concurrent.futures.wait([waits], timeout=1).done
        assert httpx.get(f"{other}/add/x").status_code == 200
        assert waits.result(60).text == "1"


def test_the_same_awaited(migrated):
    first, second = migrated.cluster.nodes[:2]
    with served_async(migrated, first) as one, served_async(migrated, second) as other:
        add_and_count(one, other, 20, "/async")


def served_async(site, node):
    program = "gunicorn", "-k", "uvicorn_worker.UvicornWorker", "--bind", "{}", "asgi"
    return site.served(node, *program)


def test_a_daemon_that_dies_and_comes_back(migrated):
    node = migrated.cluster.followers()[0]
    with migrated.served(node) as url:
        assert httpx.get(f"{url}/add/x").status_code == 200
        migrated.cluster.kill(node)
        answer = httpx.get(f"{url}/count", timeout=30)
        assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1"), answer.text
        assert httpx.get(f"{url}/add/y", timeout=30).status_code == 503
        assert httpx.get(f"{url}/health/readiness").json()["state"] == "down"
        migrated.cluster.restart(node)
        assert httpx.get(f"{url}/add/z", timeout=30).status_code == 200
        assert httpx.get(f"{url}/count").text == "2"
        assert httpx.get(f"{url}/health/readiness").status_code == 200


def test_without_a_majority(migrated):
    alone = migrated.cluster.followers()[0]
    with migrated.served(alone, BUSY_TIMEOUT=2.0) as url:
        assert httpx.get(f"{url}/add/x").status_code == 200
        # The leader last, or this one would lead for a moment.
        for node in sorted(migrated.cluster.nodes, key=lambda node: node.check("primary")):
            if node is not alone:
                migrated.cluster.kill(node)
        assert httpx.get(f"{url}/add/y", timeout=30).status_code == 503
        assert httpx.get(f"{url}/count").text == "1"
        migrated.cluster.heal()
        assert httpx.get(f"{url}/add/z", timeout=30).status_code == 200


def test_workers_that_are_forked_after_the_first_query(migrated):
    """--preload: the master has opened connections, which its children must not use."""
    node = migrated.cluster.nodes[0]
    (migrated.folder / "preloaded.py").write_text(
        "from wsgi import application\n"
        "from notes.models import Note\n"
        "from litefs_django import conf\n"
        "Note.objects.create(text='by the master'); conf.mount().client.node_status()\n"
    )
    command = ["gunicorn", "--preload", "--workers", "3", "--bind", "{}", "--pythonpath"]
    with migrated.served(node, *command, str(migrated.folder), "preloaded") as url:
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            codes = list(pool.map(lambda n: httpx.get(f"{url}/add/{n}").status_code, range(60)))
        assert set(codes) == {200}
        assert httpx.get(f"{url}/count").text == "61"
        assert httpx.get(f"{url}/health/primary").status_code in (200, 503)


def test_no_descriptor_stays_in_a_server(migrated):
    node = migrated.cluster.nodes[0]
    pid_file = migrated.folder / "pid"
    command = [
        "gunicorn",
        "--workers",
        "1",
        "--threads",
        "4",
        "--bind",
        "{}",
        "--pid",
        str(pid_file),
    ]
    with migrated.served(node, *command, "wsgi") as url:
        master = int(pid_file.read_text())
        (worker,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()

        def descriptors():
            return len(os.listdir(f"/proc/{worker}/fd"))

        def load(number):
            return httpx.get(f"{url}/{'add/x' if number % 3 else 'count'}").status_code

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert set(pool.map(load, range(60))) == {200}
            before = descriptors()
            assert set(pool.map(load, range(240))) == {200}
        wait_for(
            lambda: descriptors() <= before + 4, 10, f"{descriptors()} descriptors, {before} before"
        )
        os.kill(master, signal.SIGTERM)
