"""Bodies read whole before anything looks at them: bounded in bytes, in time, and all together in memory."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vicrop_engine.server.guard.body_encoding import AsItIs, Decoder, decoder_of
from vicrop_engine.server.guard.body_room import Body, BodyRoom
from vicrop_engine.server.problem import Problem, bad_request
from vicrop_engine.server.settings import ServerSettings

MIB = 1 << 20
MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024


class BodyLimits:
    """ASGI middleware: hands on requests whose body is there whole, within the settings' limits.

    Compressed bodies are handed on plain, and it is their plain bytes that count.
    431 for headers beyond what any client sends; 413 for a body of more than `max_body_bytes`, announced or
    sent; 408 for one that takes more than `body_seconds` to read. While bodies of `max_buffered_bytes` are
    under way together further ones wait to be read, and get 429 after `room_seconds`. A client that goes
    before its body is there gets nothing and costs nothing more.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app, self.settings = app, settings
        self._room = BodyRoom(settings.max_buffered_bytes, settings.room_seconds)

    @property
    def buffered(self) -> int:
        """Bytes of all bodies of requests under way."""
        return self._room.taken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, answer what is wrong with it, or hand on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            decoder = decoder_of(_encoding(scope))
            announced = self._announced(scope)
            is_plain = isinstance(decoder, AsItIs)
            reading = _Reading(announced if is_plain else self.settings.max_body_bytes, decoder)
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        self._room.enter(reading)
        try:
            await self._read(reading, receive)
            if reading.whole:
                await self.app(_as_read(scope), reading.replay(receive), send)
        except _Refused as refused:
            await refused.problem.response()(scope, receive, send)
        finally:
            self._room.leave(reading)

    async def _read(self, reading: _Reading, receive: Receive) -> None:
        """All of the body, or what there was when the client went. Raises _Refused."""
        clock, left = asyncio.get_running_loop().time, self.settings.body_seconds
        try:
            while not reading.whole:
                await self._room.turn(reading)
                began = clock()
                async with asyncio.timeout(left):
                    message = await receive()
                left -= clock() - began
                if message["type"] != "http.request":
                    return
                for piece in reading.decoder.pieces(message.get("body", b"")):
                    await self._room.turn(reading)
                    self._room.add(reading, reading.add(piece))
                    self._check_size(reading.size)
                    await asyncio.sleep(0)
                if not message.get("more_body", False):
                    reading.decoder.check_whole()
                    self._room.finish(reading)
        except Problem as problem:
            raise _Refused(problem) from None
        except TimeoutError:
            raise _Refused(self._too_slow()) from None

    def _announced(self, scope: Scope) -> int:
        """The body's length, at most what it may have where it says nothing. Raises Problem."""
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
            return int(lengths[0][:20])
        is_chunked = any(name == b"transfer-encoding" for name, _ in named)
        return self.settings.max_body_bytes if is_chunked else 0

    def _check_size(self, size: int) -> None:
        limit = self.settings.max_body_bytes
        if size > limit:
            message = (
                f"the body has more than {limit / MIB:g} MiB; send the picture as JPEG or WebP or a smaller "
                "one, or start the server with a larger --max-body-mib"
            )
            raise Problem(413, message, code="body_too_large")

    def _too_slow(self) -> Problem:
        message = f"the body was not there within {self.settings.body_seconds:g} seconds; send it faster"
        return Problem(408, message, code="body_too_slow", headers={"Connection": "close"})


def _encoding(scope: Scope) -> str:
    values = [value for name, value in scope["headers"] if name.lower() == b"content-encoding"]
    return b",".join(values).decode("latin-1").strip().lower()


def _as_read(scope: Scope) -> Scope:
    """The request with its body as it was read, which has no encoding any more."""
    headers = [pair for pair in scope["headers"] if pair[0].lower() != b"content-encoding"]
    return {**scope, "headers": headers}


class _Refused(Exception):
    """A body that is not handed on, and what its client is told."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class _Reading(Body):
    """A body as far as it is there, in one piece: joining parts would take as much again."""

    def __init__(self, length: int, decoder: Decoder) -> None:
        super().__init__(length)
        self.content, self.decoder = bytearray(), decoder

    def add(self, part: bytes) -> int:
        """One more part; returns its bytes."""
        self.content += part
        return len(part)

    def replay(self, receive: Receive) -> Receive:
        """A `receive` that gives the body at once, and then what the connection gives."""
        given = False

        async def replayed() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            body, self.content = self.content, bytearray()
            return {"type": "http.request", "body": body, "more_body": False}

        return replayed
