"""The settings, the mount, and what an application takes from them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from litefs_py import LitefsError, Token
from litefs_py.adapters.config.app import AppSettings
from litefs_py.adapters.http.async_client import AsyncClient
from litefs_py.adapters.http.calls import HEALTH_CHECKS
from litefs_py.adapters.mount import Mount
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from litefs_fastapi import sqlalchemy
from litefs_fastapi.asgi import LitefsMiddleware


class Litefs:
    """One for an application. Settings as arguments; `Litefs.from_environment()` for `LITEFS_MOUNT` and so on."""

    def __init__(self, settings: AppSettings | None = None, **given: Any) -> None:
        """Raises `SettingsError` that names the setting."""
        if settings is not None and given:
            raise TypeError("either settings or single ones")
        self.settings = settings or AppSettings.parse(given)
        self._engines: list[Engine | AsyncEngine] = []

    @classmethod
    def from_environment(cls) -> Litefs:
        """Of the variables `LITEFS_…`."""
        return cls(AppSettings.from_environment())

    @cached_property
    def mount(self) -> Mount:
        """The mount of this machine's node; with `dev` its node is started."""
        return self.settings.open_mount()

    @cached_property
    def client(self) -> AsyncClient:
        """Of the node's HTTP API."""
        return AsyncClient(self.mount.api, token_file=self.settings.token_file)

    # Engines

    def create_engine(self, name: str, **options: Any) -> Engine:
        """A SQLAlchemy engine for a database; SQLModel takes it too."""
        engine = sqlalchemy.create_engine(self.mount, name, **self._defaults(options))
        self._engines.append(engine)
        return engine

    def create_async_engine(self, name: str, **options: Any) -> AsyncEngine:
        """The same, async."""
        engine = sqlalchemy.create_async_engine(self.mount, name, **self._defaults(options))
        self._engines.append(engine)
        return engine

    def _defaults(self, options: dict[str, Any]) -> dict[str, Any]:
        settings = self.settings
        return {
            "busy_timeout": settings.busy_timeout,
            "synchronous": settings.synchronous,
            "query_only": settings.query_only,
            **options,
        }

    # FastAPI

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """`FastAPI(lifespan=litefs.lifespan)`: closes engines and clients at the end."""
        # With `dev` a node has to start first.
        await asyncio.to_thread(lambda: self.mount)
        try:
            yield
        finally:
            for engine in self._engines:
                if isinstance(engine, AsyncEngine):
                    await engine.dispose()
                else:
                    engine.dispose()
            if "client" in self.__dict__:
                await self.client.close()
            self.mount.client.close()

    def install(self, app: Any, health: str = "/health") -> None:
        """The middleware, and the health checks under this path."""
        app.add_middleware(LitefsMiddleware, litefs=self)
        app.include_router(self.router, prefix=health)

    @cached_property
    def router(self) -> APIRouter:
        """Health checks for load balancers: 200 or 503, as the node's own."""
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/{check}", self._health, methods=["GET", "HEAD"])
        return router

    async def _health(self, check: str, request: Request) -> JSONResponse:
        if check not in HEALTH_CHECKS:
            return JSONResponse({"detail": "Not Found"}, 404)
        if not self.settings.enabled:
            return JSONResponse({"state": "no node", "role": "primary"})
        try:
            found = await self.client.health(check, lag=request.query_params.get("lag"))
        except LitefsError as error:
            return JSONResponse({"state": "down", "reason": type(error).__name__}, 503)
        body = {
            "state": found.state,
            "role": found.role,
            "lag_ms": found.lag_ms,
            "reason": found.reason,
        }
        return JSONResponse(body, 200 if found.ok else 503)

    # Dependencies

    async def barrier(self) -> None:
        """`Depends(litefs.barrier)`: what follows sees all that was committed, anywhere, before the request."""
        if self.settings.enabled:
            await self.client.barrier()

    def token(self, *names: str) -> Token:
        """How far this node is, for who has to wait elsewhere."""
        return self.mount.token(*names)
