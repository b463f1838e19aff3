"""Who may ask: `Authorization: Bearer KEY`, compared in constant time. Keys are kept as digests only."""

from __future__ import annotations

import hashlib
import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from vicrop_engine.server.problem import Problem
from vicrop_engine.server.settings import ServerSettings

OPEN_PATHS = frozenset({"/health", "/"})  # whether it runs, and a page that holds nothing of anyone's


class ApiKeys:
    """ASGI middleware: 401 without one of the settings' keys. Without keys everything is open."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app = app
        self._digests = tuple(_digest(key.encode("utf-8")) for key in settings.api_keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, or hand on."""
        if not self._digests or scope["type"] == "lifespan" or scope.get("path") in OPEN_PATHS:
            await self.app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif (problem := self._problem(scope)) is not None:
            await problem.response()(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _problem(self, scope: Scope) -> Problem | None:
        given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
        if not given:
            return _refused("this server wants a key; send the header 'Authorization: Bearer KEY'", "missing")
        kind, _, key = given[0].partition(b" ")
        if len(given) > 1 or kind.lower() != b"bearer":
            return _refused("the header Authorization is not 'Bearer KEY'; send it so, once", "invalid")
        digest = _digest(key.strip(b" "))
        known = [hmac.compare_digest(digest, own) for own in self._digests]  # every one, whichever fits
        return None if any(known) else _refused("this key is not known here; send another one", "invalid")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _refused(message: str, what: str) -> Problem:
    headers = {"WWW-Authenticate": 'Bearer realm="vicrop-engine"'}
    return Problem(401, message, code=f"{what}_api_key", headers=headers)
