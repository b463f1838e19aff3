"""The page at `/` to try the server on: one file, under a policy that lets it run its own script alone.

Knows nothing of engines: the page asks the server as any other client does. `/?example` is the picture that
the package carries, for whoever has none at hand.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from html import escape
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from vicrop_engine.examples import demo_question

PAGE = Path(__file__).parent / "page" / "index.html"
EXAMPLE = "example"
HEADERS = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
POLICY = {
    "default-src": "'none'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
}


def page_route() -> Route:
    """The route of the page and of its example picture. Needs no key: it tells nothing of the engine."""
    return Route("/", _show, methods=["GET"])


def _show(request: Request) -> Response:
    if EXAMPLE in request.query_params:
        return FileResponse(demo_question()[0], headers=HEADERS)
    page, policy = _page()
    return HTMLResponse(page, headers={**HEADERS, "Content-Security-Policy": policy})


@cache
def _page() -> tuple[str, str]:
    """The page, and the policy that allows its inline style and script by their hashes."""
    page = PAGE.read_text(encoding="utf-8").replace("@question@", escape(demo_question()[1]["question"]))
    allowed = {f"{tag}-src": _hash(page, tag) for tag in ("script", "style")}
    return page, "; ".join(f"{name} {value}" for name, value in {**POLICY, **allowed}.items())


def _hash(page: str, tag: str) -> str:
    """What Content-Security-Policy calls the text of the page's only element of this kind."""
    (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
