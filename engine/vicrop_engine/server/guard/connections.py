"""Connections that cannot be held for nothing: bounded in number, in time without a request, and when unread.

uvicorn bounds none of these three by itself: it waits for a first request for ever, and for a client that
does not read its answer. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from vicrop_engine.server.json_documents import encode
from vicrop_engine.server.problem import Problem, bad_request
from vicrop_engine.server.settings import ServerSettings


def protocol_for(settings: ServerSettings) -> type[H11Protocol]:
    """The class that uvicorn's `http` setting takes, with these settings."""
    return type("BoundedProtocol", (_Bounded,), {"settings": settings})


class _Bounded(H11Protocol):
    """h11's protocol with three more ends: too many connections, no request in time, an answer unread."""

    settings: ServerSettings

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._idle_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        limit = self.settings.max_connections
        if len(self.connections) > limit:
            message = f"{limit} connections are open already; come back a little later"
            self._refuse(Problem(503, message, code="too_many_connections", headers={"Retry-After": "2"}))
        self._watch()

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)
            self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        for timer in (self._idle_timer, self._write_timer):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.settings.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets its answer in the same form as every other error, `msg` stays unsaid."""
        self._refuse(bad_request("this is not an HTTP/1.1 request; send one", code="invalid_http"))

    def _watch(self) -> None:
        """While no request is worked on, whoever holds the connection has a bounded time to make one."""
        idle = self.cycle is None or self.cycle.response_complete
        if self.transport.is_closing() or not idle:
            if self._idle_timer is not None:
                self._idle_timer.cancel()
            self._idle_timer = None
        elif self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.settings.header_seconds, self._too_slow)

    def _too_slow(self) -> None:
        message = f"no whole request came within {self.settings.header_seconds:g} seconds; send it faster"
        self._refuse(Problem(408, message, code="request_too_slow"))

    def _refuse(self, problem: Problem) -> None:
        """Say `problem` unless an answer has begun, and end the connection."""
        cycle = self.cycle
        if self.transport.is_closing():
            return
        if cycle is None or not cycle.response_started:
            self.transport.write(_raw(problem))
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()


def _raw(problem: Problem) -> bytes:
    """A whole HTTP/1.1 answer that ends the connection."""
    body = encode(problem.to_json())
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **problem.headers,
    }
    head = f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}"
    lines = [head, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body
