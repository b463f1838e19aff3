"""Requests to a bare ASGI application: no socket, no thread."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True)
class Answered:
    """What an application answered; status 0 for nothing."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """OpenAI's error document."""
        facts: dict[str, Any] = json.loads(self.body)["error"]
        return facts


class Echo:
    """An application that answers with the body it got."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        self.bodies.append(message["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": message["body"]})


def ask(
    app: ASGIApp,
    parts: Iterable[bytes] = (),
    *,
    path: str = "/v1/models",
    ends: bool = True,
    stalls: bool = False,
    **headers: str,
) -> Answered:
    """Send a request whose body comes in `parts`, which with `ends` False breaks off, or stalls."""
    return asyncio.run(ask_soon(app, parts, path=path, ends=ends, stalls=stalls, **headers))


async def ask_soon(
    app: ASGIApp,
    parts: Iterable[bytes] = (),
    *,
    path: str = "/v1/models",
    ends: bool = True,
    stalls: bool = False,
    **headers: str,
) -> Answered:
    """The same inside a running loop."""
    waiting: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if ends:
        waiting.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[Message] = []

    async def receive() -> Message:
        if not waiting and stalls:
            await asyncio.sleep(60)
        await asyncio.sleep(0)  # as others' parts come in between
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    named = {"host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in named.items()]
    await app({"type": "http", "method": "POST", "path": path, "headers": encoded}, receive, send)
    if not sent:
        return Answered(0, {}, b"")
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answered(sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:]))
