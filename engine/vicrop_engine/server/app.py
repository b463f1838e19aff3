"""The application: its routes and layers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from vicrop_engine.errors import ViCropError
from vicrop_engine.server.guard.api_keys import ApiKeys
from vicrop_engine.server.guard.body_limits import BodyLimits
from vicrop_engine.server.guard.cross_origin import cross_origin
from vicrop_engine.server.guard.hosts import AllowedHosts
from vicrop_engine.server.ops.malloc_trim import give_back_freed
from vicrop_engine.server.ops.metrics import Metrics
from vicrop_engine.server.ops.readiness import Readiness
from vicrop_engine.server.ops.request_log import RequestLog, noted_problem
from vicrop_engine.server.ops.traces import NoTraces, Traces
from vicrop_engine.server.page import page_route
from vicrop_engine.server.problem import Problem
from vicrop_engine.server.routes import Routes
from vicrop_engine.server.settings import ServerSettings
from vicrop_engine.serving.scheduler import Scheduler


def create_app(scheduler: Scheduler, settings: ServerSettings, traces: Traces | None = None) -> Starlette:
    """The application over a scheduler, which stays the caller's to close.

    `state.readiness` says whether it is ready; it warms up when it is started.
    """
    metrics, readiness = Metrics(scheduler), Readiness()
    routes = Routes(scheduler, settings, metrics, readiness, traces or NoTraces())

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work) for work in (readiness.warm_up(scheduler), give_back_freed())]
        yield
        readiness.drain()
        for task in tasks:
            task.cancel()

    middleware = [  # from the outside in
        Middleware(RequestLog, metrics=metrics),
        Middleware(AllowedHosts, settings=settings),
        *cross_origin(settings.allowed_origins),  # before keys, which no preflight has
        Middleware(ApiKeys, settings=settings),
        Middleware(BodyLimits, settings=settings),
    ]
    app = Starlette(
        routes=[*routes.routes(), page_route()],
        middleware=middleware,
        lifespan=lifespan,
        exception_handlers={Problem: _refuse, ViCropError: _refuse, HTTPException: _refuse_http},
    )
    app.state.readiness = readiness
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    """Async, as both are: Starlette would give each refusal of a plain function a thread."""
    return noted_problem(request.scope, error).response()


async def _refuse_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    known = {404: f"there is nothing at {path}", 405: f"{path} does not take {request.method[:20]}"}
    message = known.get(error.status_code, str(error.detail))
    return Problem(error.status_code, message, headers=error.headers).response()
