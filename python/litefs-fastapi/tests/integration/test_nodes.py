"""FastAPI and SQLAlchemy on the nodes of a real cluster."""

import asyncio
import time
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from litefs_fastapi import Litefs
from litefs_py import CommitOutcomeUnknown, NodeDown, QuorumLost, Token
from litefs_py.cluster import wait_for
from litefs_py.domain import cookie
from sqlalchemy import text

SECRET = "a secret of all nodes"


def litefs_of(node, **settings):
    return Litefs(mount=node.mount.path, api=node.socket, secret=SECRET, **settings)


@pytest.fixture
def table(litefs_cluster, litefs_database):
    with litefs_cluster.leader().connect(litefs_database) as connection:
        connection.execute("CREATE TABLE note(id INTEGER PRIMARY KEY, text TEXT)")
    connection.close()
    for node in litefs_cluster.nodes:
        node.client.barrier(10)
    return litefs_database


@asynccontextmanager
async def served(node, database, **settings):
    """An application on a node, and a client for it."""
    litefs = litefs_of(node, **settings)
    engine = litefs.create_async_engine(database)
    app = FastAPI(lifespan=litefs.lifespan)
    litefs.install(app)

    @app.post("/notes")
    async def add():
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO note(text) VALUES ('x')"))

    @app.get("/notes")
    async def count() -> int:
        async with engine.connect() as connection:
            return (await connection.execute(text("SELECT count(*) FROM note"))).scalar()

    @app.get("/linear", dependencies=[Depends(litefs.barrier)])
    async def linear() -> int:
        return await count()

    @app.get("/slow")
    async def slow():
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO note(text) VALUES ('slow')"))
            await asyncio.sleep(60)
            raise HTTPException(500)

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        litefs.lifespan(app),
        httpx.AsyncClient(transport=transport, base_url="http://app", timeout=60) as client,
    ):
        yield client


def is_gone(node):
    try:
        node.mount.require()
    except NodeDown:
        return True
    return False


def isolate(cluster, alone):
    """The leader last, or this one would lead for a moment."""
    for node in sorted(cluster.nodes, key=lambda node: node.check("primary")):
        if node is not alone:
            cluster.kill(node)


def test_who_wrote_reads_it_on_another_node(litefs_cluster, table):
    async def work():
        first, second = litefs_cluster.nodes[:2]
        async with served(first, table) as one, served(second, table) as other:
            other.cookies = one.cookies
            for number in range(1, 31):
                assert (await one.post("/notes")).status_code == 200
                other.cookies = one.cookies
                assert (await other.get("/notes")).json() >= number
            assert (await other.get("/linear")).json() == 30
            assert (await other.get("/health/readiness")).status_code == 200
            assert (await other.get("/health/nothing")).status_code == 404

    asyncio.run(work())


def test_a_request_waits_for_its_position(litefs_cluster, table):
    """The transaction that the cookie names is made while the request waits for it."""
    first, second = litefs_cluster.nodes[:2]
    txid = first.mount.position(table).txid + 1
    value = cookie.sign(Token({table: txid}), SECRET.encode(), time.time())

    async def work():
        async with served(second, table, wait_timeout=60) as client, served(first, table) as other:
            headers = {"cookie": f"litefs_position={value}"}
            waits = asyncio.create_task(client.get("/notes", headers=headers))
            assert not (await asyncio.wait([waits], timeout=0.5))[0]
            assert (await other.post("/notes")).status_code == 200
            assert (await asyncio.wait_for(waits, 60)).json() == 1

    asyncio.run(work())


def test_a_daemon_that_dies_and_comes_back(litefs_cluster, table):
    node = litefs_cluster.followers()[0]

    async def work():
        async with served(node, table) as client:
            assert (await client.post("/notes")).status_code == 200
            await asyncio.to_thread(litefs_cluster.kill, node)
            await asyncio.sleep(0.05)
            answer = await client.get("/notes")
            assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1")
            assert (await client.post("/notes")).status_code == 503
            assert (await client.get("/health/readiness")).status_code == 503
            await asyncio.to_thread(litefs_cluster.restart, node)
            assert (await client.post("/notes")).status_code == 200
            assert (await client.get("/notes")).json() == 2

    asyncio.run(work())


def test_a_request_that_is_cancelled_leaves_no_lock(litefs_cluster, table):
    async def work():
        async with served(litefs_cluster.nodes[0], table) as client:
            for _ in range(8):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(client.get("/slow"), 0.3)
            assert (await client.post("/notes")).status_code == 200
            assert (await client.get("/notes")).json() == 1

    asyncio.run(work())


def test_without_a_majority(litefs_cluster, table):
    alone = litefs_cluster.followers()[0]
    litefs = litefs_of(alone, busy_timeout=1)
    engine = litefs.create_engine(table)
    isolate(litefs_cluster, alone)
    wait_for(lambda: not alone.client.node_status().can_write, 10, "the majority is missed")
    with pytest.raises(QuorumLost), engine.begin() as connection:
        connection.execute(text("INSERT INTO note(text) VALUES ('x')"))
    with engine.execution_options(litefs_begin="DEFERRED").connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM note")).scalar() == 0
    litefs_cluster.heal()
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO note(text) VALUES ('x')"))
    engine.dispose()


def test_a_pool_after_a_restart(litefs_cluster, table):
    node = litefs_cluster.followers()[0]
    engine = litefs_of(node).create_engine(table)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO note(text) VALUES ('x')"))
    litefs_cluster.kill(node)
    wait_for(lambda: is_gone(node), 5, "the kernel notices")
    # Either as it connects or, within the moment in which the mount is not asked again, as it reads.
    with pytest.raises(NodeDown), engine.connect() as connection:
        connection.execute(text("SELECT count(*) FROM note"))
    litefs_cluster.restart(node)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM note")).scalar() == 1
        connection.execute(text("INSERT INTO note(text) VALUES ('y')"))
        litefs_cluster.kill(node)
        wait_for(lambda: is_gone(node), 5, "the kernel notices")
        with pytest.raises((CommitOutcomeUnknown, NodeDown)):
            connection.commit()
    litefs_cluster.restart(node)
    node.client.barrier(10)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM note")).scalar() == 1
    engine.dispose()
