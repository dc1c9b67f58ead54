"""Barriers and read-your-writes by hand: decorators of views and functions, and context managers; sync and async.

@barrier                        with barrier():          async with barrier(timeout=2):
def report(request): …              …                        …

with read_your_writes(token) as seen:   # on any node: what the token tells of is there
    …
seen.token                              # and what was written within, for the next one to wait for
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Any, TypeVar, overload

from asgiref.sync import iscoroutinefunction, sync_to_async
from litefs_py import Token
from litefs_py.usecases import writes

from litefs_django import conf

F = TypeVar("F", bound=Callable[..., Any])


class _Scope:
    """A context manager of both kinds, and a decorator."""

    def enter(self) -> None:
        raise NotImplementedError

    async def enter_async(self) -> None:
        await sync_to_async(self.enter, thread_sensitive=False)()

    def leave(self) -> None:
        pass

    def again(self) -> _Scope:
        """One of its own for each call of what is decorated."""
        return self

    def __enter__(self) -> Any:
        self.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    async def __aenter__(self) -> Any:
        await self.enter_async()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    def __call__(self, function: F) -> F:
        if iscoroutinefunction(function):

            @wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                async with self.again():
                    return await function(*args, **kwargs)

            return awaited  # type: ignore[return-value]

        @wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with self.again():
                return function(*args, **kwargs)

        return called  # type: ignore[return-value]


class _Barrier(_Scope):
    def __init__(self, timeout: float) -> None:
        self.timeout = timeout

    def enter(self) -> None:
        conf.mount().barrier(self.timeout)


@overload
def barrier(function: F, /) -> F: ...
@overload
def barrier(*, timeout: float = ...) -> _Barrier: ...
def barrier(function: Any = None, /, *, timeout: float = 10.0) -> Any:
    """What follows sees all that was committed, on any node, before it. Raises `QuorumLost`, `WaitTimeout`."""
    scope = _Barrier(timeout)
    return scope if function is None else scope(function)


class ReadYourWrites(_Scope):
    """`token`, when the block is over: what it waited for, and what was written."""

    def __init__(self, token: Token | None, timeout: float) -> None:
        self.token = Token() if token is None else token
        self.timeout = timeout
        self._watch: Any = None
        self._names: set[str] = set()

    def again(self) -> ReadYourWrites:
        """One for each call."""
        return ReadYourWrites(self.token, self.timeout)

    def enter(self) -> None:
        """Waits."""
        conf.mount().wait(self.token, self.timeout)
        self._begin()

    async def enter_async(self) -> None:
        """Waits."""
        await conf.mount().wait_async(self.token, self.timeout)
        self._begin()

    def _begin(self) -> None:
        self._watch = writes.watching()
        self._names = self._watch.__enter__()

    def leave(self) -> None:
        """Takes note."""
        self._watch.__exit__(None, None, None)
        self.token = self.token.joined(conf.mount().token(*self._names))


def read_your_writes(token: Token | None = None, *, timeout: float = 10.0) -> ReadYourWrites:
    """Waits for a token, and makes one. For what is no request of a browser: jobs, queues, other programs."""
    return ReadYourWrites(token, timeout)


def idempotent(view: F) -> F:
    """Says that a view may run twice with the same request, so that a COMMIT whose outcome is unknown is
    answered by 503, and a load balancer asks another node, instead of by an error page."""
    view.litefs_idempotent = True  # type: ignore[attr-defined]
    return view
