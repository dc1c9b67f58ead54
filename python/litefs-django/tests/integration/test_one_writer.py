"""Django with LiteFS as the engine, a real one: a replica sends what writes to the primary's application."""

import contextlib
import socket

import httpx
import pytest
from litefs_py.cluster import wait_for

ASGI = "gunicorn", "-k", "uvicorn_worker.UvicornWorker", "--bind", "{}", "asgi"


@contextlib.contextmanager
def served(site, *command):
    """On the primary and one replica, each of which knows the other: (replica's URL, primary's, both nodes)."""
    leader, replica = site.cluster.leader(), site.cluster.followers()[0]
    ports = {}
    with contextlib.ExitStack() as held:
        for node in (leader, replica):
            made = held.enter_context(socket.socket())
            made.bind(("127.0.0.1", 0))
            ports[node.name] = made.getsockname()[1]
    forward = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    with (
        site.served(leader, *command, port=ports[leader.name], FORWARD=forward) as there,
        site.served(replica, *command, port=ports[replica.name], FORWARD=forward) as here,
    ):
        yield here, there, replica, leader


@pytest.mark.parametrize(("command", "prefix"), [((), ""), (ASGI, "/async")], ids=["wsgi", "asgi"])
def test_a_browser_on_a_replica(one_writer, command, prefix):
    """It reads at once what it wrote, though it wrote elsewhere; by GET too, which turns out to write."""
    with served(one_writer, *command) as (here, there, replica, leader):
        written = 0
        for url in (here, there):
            with httpx.Client(base_url=url, timeout=30) as browser:
                for method in ["POST", "GET"] * 8:
                    answer = browser.request(method, f"{prefix}/add/x")
                    assert (answer.status_code, answer.text) == (200, "added")
                    written += 1
                    assert "litefs_position" in browser.cookies
                    assert browser.get(f"{prefix}/count").text == str(written)
        wait_for(replica.mount.is_replica, 10, "attached")
        leader.client.switchover(replica.name)
        wait_for(replica.mount.is_primary, 15, "primary")
        wait_for(leader.mount.is_replica, 15, "the old one follows")
        with httpx.Client(base_url=there, timeout=30) as browser:
            assert browser.post(f"{prefix}/add/x").status_code == 200
            assert browser.get(f"{prefix}/count").text == str(written + 1)


def test_sessions(one_writer):
    """They are written by views that read."""
    with served(one_writer) as (here, there, *_), httpx.Client(timeout=30) as browser:
        seen = [browser.get(f"{url}/session").text for url in (here, there, here, here)]
        assert seen == ["1", "2", "3", "4"]
        assert browser.get(f"{here}/admin/login/").status_code == 200


def test_without_forwarding(one_writer):
    leader, replica = one_writer.cluster.leader(), one_writer.cluster.followers()[0]
    with one_writer.served(replica, NOT_PRIMARY_STATUS=421) as url:
        for method in ("GET", "POST"):
            answer = httpx.request(method, f"{url}/add/x", timeout=30)
            assert (answer.status_code, answer.headers["litefs-primary"]) == (421, leader.name)
        assert httpx.get(f"{url}/count").text == "0"


def test_migrations_run_on_the_primary(one_writer):
    leader, replica = one_writer.cluster.leader(), one_writer.cluster.followers()[0]
    code, said = one_writer.manage(replica, "migrate", check=False)
    assert code != 0
    assert f"on the primary, {leader.name}" in said
    one_writer.manage(leader, "migrate", "--verbosity", "0")
