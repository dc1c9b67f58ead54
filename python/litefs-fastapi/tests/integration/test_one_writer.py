"""FastAPI with LiteFS as the engine, a real one: a replica sends what writes to the primary's application."""

import contextlib
import socket
import threading

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from litefs_fastapi import Litefs
from litefs_py.cluster import wait_for
from sqlalchemy import text

SECRET = "a secret of all nodes"


def application(node, database, **settings):
    litefs = Litefs(mount=node.mount.path, api=node.socket, secret=SECRET, **settings)
    engine = litefs.create_engine(database)
    app = FastAPI(lifespan=litefs.lifespan)
    litefs.install(app)

    @app.post("/notes")
    @app.get("/visit")
    def add():
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO note(text) VALUES ('x')"))

    @app.get("/notes")
    def count() -> int:
        with engine.connect() as connection:
            return connection.execute(text("SELECT count(*) FROM note")).scalar()

    @app.post("/bytes")
    async def size(request: Request) -> dict[str, int | str | None]:
        total = 0
        async for piece in request.stream():
            total += len(piece)
        return {"node": node.name, "size": total, "for": request.headers.get("x-forwarded-for")}

    return app


@contextlib.contextmanager
def served(app, listening):
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        wait_for(lambda: server.started, 20, "a server")
        yield
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def urls(litefs_primary_cluster, litefs_database, request):
    """The application on each node, by the node's name."""
    cluster = litefs_primary_cluster
    with contextlib.closing(cluster.leader().connect(litefs_database)) as connection, connection:
        connection.execute("CREATE TABLE note(id INTEGER PRIMARY KEY, text TEXT)")
    cluster.settle(litefs_database)
    with contextlib.ExitStack() as stack:
        sockets = {}
        for node in cluster.nodes:
            sockets[node.name] = stack.enter_context(socket.socket())
            sockets[node.name].bind(("127.0.0.1", 0))
        found = {
            name: f"http://127.0.0.1:{made.getsockname()[1]}" for name, made in sockets.items()
        }
        settings = getattr(request, "param", {"forward": found})
        for node in cluster.nodes:
            app = application(node, litefs_database, **settings)
            stack.enter_context(served(app, sockets[node.name]))
        yield found


def test_a_browser_on_a_replica(litefs_primary_cluster, urls):
    """It reads at once what it wrote, though it wrote elsewhere; through a switchover as well."""
    written = 0
    for _ in range(2):
        leader, (replica, *_) = litefs_primary_cluster.leader(), litefs_primary_cluster.followers()
        with httpx.Client(base_url=urls[replica.name], timeout=30) as browser:
            for method, path in [("POST", "/notes"), ("GET", "/visit")] * 10:
                answer = browser.request(method, path)
                assert answer.status_code == 200, answer.text
                written += 1
                assert "litefs_position" in browser.cookies
                assert browser.get("/notes").json() == written
        wait_for(replica.mount.is_replica, 10, "attached")
        leader.client.switchover(replica.name)
        wait_for(replica.mount.is_primary, 15, "primary")
        wait_for(leader.mount.is_replica, 15, "the old one follows")


def test_a_large_body(litefs_primary_cluster, urls):
    leader, replica = litefs_primary_cluster.leader(), litefs_primary_cluster.followers()[0]

    def pieces():
        for _ in range(160):
            yield b"x" * 65536

    for content in (pieces(), b"x" * (160 * 65536)):
        answer = httpx.post(f"{urls[replica.name]}/bytes", content=content, timeout=60)
        assert answer.json() == {"node": leader.name, "size": 160 * 65536, "for": "127.0.0.1"}


@pytest.mark.parametrize("urls", [{}, {"refuse_writes": True}], indirect=True)
def test_refused(litefs_primary_cluster, urls):
    leader, replica = litefs_primary_cluster.leader(), litefs_primary_cluster.followers()[0]
    answer = httpx.post(f"{urls[replica.name]}/notes", timeout=30)
    assert (answer.status_code, answer.headers["litefs-primary"]) == (503, leader.name)
    assert httpx.get(f"{urls[replica.name]}/notes", timeout=30).json() == 0
    assert httpx.post(f"{urls[leader.name]}/notes", timeout=30).status_code == 200
