"""The clients against real nodes: what they say, and what they raise when nodes fail."""

import asyncio

import pytest
from litefs_py import AsyncClient, Client, NodeDown, NotAllowed, QuorumLost, Refused, WaitTimeout


def write(node, name, *statements):
    with node.connect(name) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        token = connection.token()
    connection.close()
    return token


def test_answers(litefs_cluster, litefs_database):
    leader, follower = litefs_cluster.leader(), litefs_cluster.followers()[0]
    token = write(follower, litefs_database, "CREATE TABLE t(a)", "INSERT INTO t VALUES (1)")
    status = follower.client.status()
    assert (status.leader, status.role, status.can_write) == (leader.name, "replica", True)
    assert {member.name for member in status.members} == {"n1", "n2", "n3"}
    for node in litefs_cluster.nodes:
        node.client.barrier(5)
        assert node.client.position(litefs_database).txid == token[litefs_database]
        node.client.wait(token, 5)
        node.mount.wait(token, 5)
    assert follower.client.health("replica", lag="10s").ok
    assert not follower.client.health("primary").ok
    checked = follower.client.check(litefs_database)
    assert checked.sound
    assert len(checked.copies) == 3
    assert follower.client.history()[-1]["leader"] == leader.name


def test_switchover(litefs_cluster):
    follower = litefs_cluster.followers()[0]
    assert follower.client.switchover(follower.name).leader == follower.name
    assert litefs_cluster.leader() is follower
    with pytest.raises(Refused):
        follower.client.switchover(follower.name)
    # Over TCP it takes a token, which these nodes have none of.
    with Client(follower.api) as client, pytest.raises(NotAllowed):
        client.switchover()


def test_another_endpoint_stands_in(litefs_cluster):
    leader, other = litefs_cluster.leader(), litefs_cluster.followers()[0]
    with Client([leader.api, other.api], timeout=3) as client:
        assert client.status().name == leader.name
        litefs_cluster.kill(leader)
        assert client.status().name == other.name
        with pytest.raises(NodeDown):
            client.node_status()
        with pytest.raises(NodeDown):
            client.barrier(1)
    litefs_cluster.heal()
    frozen, well = litefs_cluster.nodes[:2]
    litefs_cluster.pause(frozen)
    with Client([frozen.api, well.api], timeout=2) as client:
        assert client.status().name == well.name
        with pytest.raises(WaitTimeout):
            client.node_status()


def test_without_a_majority(litefs_cluster, litefs_database):
    alone = litefs_cluster.leader()
    token = write(alone, litefs_database, "CREATE TABLE t(a)")
    for node in litefs_cluster.followers():
        litefs_cluster.kill(node)
    with pytest.raises((QuorumLost, WaitTimeout)):
        alone.client.barrier(1)
    with pytest.raises(QuorumLost):
        alone.client.barrier(2)
    # Readers go on.
    alone.mount.wait(token, 1)
    with pytest.raises(WaitTimeout):
        alone.mount.wait({litefs_database: token[litefs_database] + 1}, 0.2)


def test_async(litefs_cluster, litefs_database):
    leader, follower = litefs_cluster.leader(), litefs_cluster.followers()[0]
    token = write(leader, litefs_database, "CREATE TABLE t(a)")

    async def ask():
        async with AsyncClient([follower.socket, leader.socket]) as client:
            await client.wait(token, 5)
            await client.barrier(5)
            assert (await client.position(litefs_database)).txid == token[litefs_database]
            await follower.mount.wait_async(token, 5)
            with pytest.raises(WaitTimeout):
                await follower.mount.wait_async({litefs_database: 10**6}, 0.1)
            assert (await client.switchover(follower.name)).leader == follower.name
            litefs_cluster.kill(follower)
            assert (await client.status()).name == leader.name
            with pytest.raises(NodeDown):
                await client.databases()

    asyncio.run(ask())
