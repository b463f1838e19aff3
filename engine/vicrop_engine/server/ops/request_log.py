"""The outermost layer: a request's id, its line in the log, and what is told of a failure."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vicrop_engine.server.ops.logs import FACTS
from vicrop_engine.server.ops.metrics import Metrics
from vicrop_engine.server.problem import NO_MEMORY, ClientGone, Problem, problem_of

REQUEST_ID = "X-Request-Id"
SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}")
GONE = 499  # as nginx logs a client that did not wait
CHAT, RESPONSES = ANSWERING = ("/v1/chat/completions", "/v1/responses")

logger = logging.getLogger("vicrop_engine.server")


def facts_of(scope: Scope) -> dict[str, Any]:
    """What the log's line of this request is going to say."""
    facts: dict[str, Any] = scope.setdefault("vicrop.facts", {})
    return facts


def noted_problem(scope: Scope, error: BaseException) -> Problem:
    """What the client is told of the error; the log has the server's own failures whole.

    Of a refusal it has no more than which key was wrong, for the sentence may quote the client.
    """
    problem, facts = problem_of(error), facts_of(scope)
    if problem.status == 500 or problem.code == NO_MEMORY:
        logger.error("failed", exc_info=error, extra={FACTS: {"request_id": facts.get("request_id")}})
    facts |= {"param": problem.param, "code": problem.code}
    return problem


class RequestLog:
    """ASGI middleware; nothing comes out of it but answers."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 0
        facts = facts_of(scope)
        facts |= {"request_id": _request_id(scope), "method": scope["method"], "path": scope["path"][:200]}

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = facts["request_id"]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientGone:
            status = GONE
        except Exception as error:
            problem = noted_problem(scope, error)
            if status == 0:
                await problem.response()(scope, receive, send_with_id)
        finally:
            self._log(facts, status or GONE, time.monotonic() - started)

    def _log(self, facts: dict[str, Any], status: int, seconds: float) -> None:
        if facts["path"] in ANSWERING:
            self._metrics.requests.labels(status=str(status)).inc()
        level = logging.INFO if facts["path"] in ANSWERING or status >= 400 else logging.DEBUG
        logger.log(level, "request", extra={FACTS: {**facts, "status": status, "seconds": round(seconds, 4)}})


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if SANE.fullmatch(given) else uuid.uuid4().hex
