"""Bodies read whole before anything looks at them: bounded in bytes, in time, and all together in memory."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vicrop_engine.server.problem import Problem, bad_request
from vicrop_engine.server.settings import ServerSettings

RETRY_SECONDS = 2
MIB = 1 << 20
MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024


class BodyLimits:
    """ASGI middleware: hands on requests whose body is there whole, within the settings' limits.

    431 for headers beyond what any client sends; 413 for a body of more than `max_body_bytes`, announced or
    sent; 408 for one that is not there within `body_seconds`; 503 while bodies of `max_buffered_bytes` are
    under way together. A client that goes before its body is
    there gets nothing and costs nothing more.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app, self.settings = app, settings
        self.buffered = 0  # bytes of all bodies of requests under way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, answer what is wrong with it, or hand on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        reading = _Reading()
        try:
            self._check_announced(scope)
            async with asyncio.timeout(self.settings.body_seconds):
                await self._read(reading, receive)
        except Problem as problem:
            await problem.response()(scope, receive, send)
        except TimeoutError:
            await self._too_slow().response()(scope, receive, send)
        else:
            if reading.whole:
                await self.app(scope, reading.replay(receive), send)
        finally:
            self.buffered -= reading.size

    async def _read(self, reading: _Reading, receive: Receive) -> None:
        """All of the body, or what there was when the client went. Raises Problem."""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            part = message.get("body", b"")
            reading.add(part)
            self.buffered += len(part)
            self._check_size(reading.size)
            if self.buffered > self.settings.max_buffered_bytes:
                raise _crowded()
            if not message.get("more_body", False):
                reading.whole = True
                return

    def _check_announced(self, scope: Scope) -> None:
        named = [(name.lower(), value) for name, value in scope["headers"]]
        if (
            len(named) > MAX_HEADERS
            or sum(len(name) + len(value) for name, value in named) > MAX_HEADER_BYTES
        ):
            message = f"the request has more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes of them"
            raise Problem(431, f"{message}; send fewer", code="headers_too_large")
        lengths = [value for name, value in named if name == b"content-length"]
        if any(not value.isdigit() for value in lengths) or len(set(lengths)) > 1:
            raise bad_request("the header Content-Length is no number; send the body's length in bytes")
        if lengths and any(name == b"transfer-encoding" for name, _ in named):
            raise bad_request("the body has a length and is chunked; send it in one of the two ways")
        if lengths:
            self._check_size(int(lengths[0][:20]))

    def _check_size(self, size: int) -> None:
        limit = self.settings.max_body_bytes
        if size > limit:
            message = f"the body has more than {limit / MIB:g} MiB; send a smaller one"
            raise Problem(413, message, code="body_too_large")

    def _too_slow(self) -> Problem:
        message = f"the body was not there within {self.settings.body_seconds:g} seconds; send it faster"
        return Problem(408, message, code="body_too_slow", headers={"Connection": "close"})


class _Reading:
    """A body as far as it has been read."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.whole = False

    def add(self, part: bytes) -> None:
        if part:
            self.parts.append(part)
            self.size += len(part)

    def replay(self, receive: Receive) -> Receive:
        """A `receive` that gives the body at once, and then what the connection gives."""
        given = False

        async def replayed() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            body = b"".join(self.parts)
            self.parts.clear()
            return {"type": "http.request", "body": body, "more_body": False}

        return replayed


def _crowded() -> Problem:
    return Problem(
        503,
        "the server holds as many bytes of requests as it may; ask again a little later",
        code="too_many_bytes",
        headers={"Retry-After": str(RETRY_SECONDS)},
    )
