"""Whom a browser may believe it talks to: the guard against DNS rebinding and foreign pages.

A page from anywhere can make a browser on this machine send requests to 127.0.0.1. With a name of its own
that it points here it could even read the answers; so a server bound to loopback answers only to loopback's
names and those it was told, and no server answers requests that another site's page makes.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from vicrop_engine.server.guard.cross_origin import ANY
from vicrop_engine.server.problem import Problem
from vicrop_engine.server.settings import ServerSettings, is_loopback

HEALTH = "/health"
LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?")


class AllowedHosts:
    """ASGI middleware: 403 for requests to other names than allowed, and from other sites' pages.

    Allowed are the settings' `allowed_hosts` and loopback's names. Bound elsewhere and without
    `allowed_hosts` every name is, as a server cannot know how it is called. Whether it is healthy it tells
    under any name: probes ask by address, and the answer tells nothing.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app = app
        names = {_bare(name) for name in settings.allowed_hosts}
        loopback = is_loopback(_bare(settings.host))
        self._any = not names and not loopback
        self._allowed = names | LOOPBACK_NAMES
        self._origins = {origin.lower() for origin in settings.allowed_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, or hand on."""
        is_named = scope["type"] in ("http", "websocket") and scope.get("path") != HEALTH
        problem = self._problem(scope) if is_named else None
        if problem is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await problem.response()(scope, receive, send)

    def _problem(self, scope: Scope) -> Problem | None:
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        host = _name(hosts[0]) if len(hosts) == 1 else None
        if host is None or not (self._any or host in self._allowed):
            names = ", ".join(sorted(self._allowed)) or "a name"
            return Problem(
                403,
                f"this server does not go by that Host; ask it as {names}, or start it with that name",
                code="host_not_allowed",
            )
        if all(self._own(origin, hosts[0]) for origin in origins):
            return None
        return Problem(
            403,
            "the page that asks is from another site; ask from this server's own page, or without a browser",
            code="origin_not_allowed",
        )

    def _own(self, origin: str, host: str) -> bool:
        """Whether a page of `origin` is this server's own, or of a host or an origin allowed by name."""
        if self._origins & {ANY, origin.lower()}:
            return True
        try:
            parts = urlsplit(origin)
            name = _name(parts.netloc)
        except ValueError:
            return False
        if parts.scheme not in ("http", "https") or name is None:
            return False
        return parts.netloc.lower() == host.lower() or (name in self._allowed and name not in LOOPBACK_NAMES)


def _values(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted]


def _name(host: str) -> str | None:
    """The name in a Host header, without port and brackets; None for what is none."""
    found = _HOST.fullmatch(host.lower())
    return None if found is None else _bare(found[1])


def _bare(name: str) -> str:
    return name.lower().removeprefix("[").removesuffix("]").removesuffix(".")
