"""Decorators and context managers, on a mount that is played."""

import asyncio

import pytest
from litefs_py import Token
from litefs_py.usecases import writes


class PlayedMount:
    def __init__(self):
        self.said = []

    def barrier(self, timeout):
        self.said.append(("barrier", timeout))

    def wait(self, token, timeout):
        self.said.append(("wait", dict(token)))

    async def wait_async(self, token, timeout):
        self.wait(token, timeout)

    def token(self, *names):
        return Token(dict.fromkeys(names, 8))


@pytest.fixture
def mount(monkeypatch):
    from litefs_django import conf

    played = PlayedMount()
    monkeypatch.setattr(conf, "mount", lambda: played)
    return played


def test_barrier(mount):
    from litefs_django.consistency import barrier

    @barrier
    def plain(x):
        return x

    @barrier(timeout=2)
    async def awaited(x):
        return x

    assert plain(1) == 1
    assert asyncio.run(awaited(2)) == 2
    with barrier():
        pass

    async def block():
        async with barrier(timeout=3):
            pass

    asyncio.run(block())
    assert mount.said == [("barrier", t) for t in (10.0, 2, 10.0, 3)]


def test_read_your_writes(mount):
    from litefs_django.consistency import read_your_writes

    with read_your_writes(Token({"a.db": 3})) as seen:
        writes.wrote("b.db")
    assert dict(seen.token) == {"a.db": 3, "b.db": 8}

    async def block():
        async with read_your_writes(seen.token) as again:
            await asyncio.to_thread(writes.wrote, "a.db")
        return again.token

    assert dict(asyncio.run(block())) == {"a.db": 8, "b.db": 8}
    assert mount.said == [("wait", {"a.db": 3}), ("wait", {"a.db": 3, "b.db": 8})]
