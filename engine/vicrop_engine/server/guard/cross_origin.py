"""Pages of other sites that may ask: by Starlette's CORS layer, for the origins the settings name alone."""

from __future__ import annotations

import re

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from vicrop_engine.errors import SettingError, shown

ANY = "*"
_ORIGIN = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?|null")
EXPOSED = ("X-Request-Id", "X-Vicrop-Notices", "Retry-After")


def check_origins(origins: tuple[str, ...]) -> None:
    """Raises SettingError for what no browser sends as an origin."""
    for origin in origins:
        if origin != ANY and not _ORIGIN.fullmatch(origin):
            raise SettingError(
                f"got allowed origin {shown(origin)}, wanted one as browsers send it, such as "
                "https://page.example or http://localhost:3000, or '*' for every one"
            )


def cross_origin(origins: tuple[str, ...]) -> list[Middleware]:
    """The layer that answers preflights, those to private networks too; none without origins."""
    if not origins:
        return []
    layer = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=(ANY,),
        allow_private_network=True,
        expose_headers=EXPOSED,
    )
    return [layer]
