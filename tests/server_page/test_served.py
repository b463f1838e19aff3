"""How the page is served: one file that needs no other, under a policy that allows its own script alone."""

from __future__ import annotations

import base64
import hashlib
import re

import httpx
import pytest

from tests.server.running import Running, demo_picture, demo_text


@pytest.fixture
def served(server: Running) -> httpx.Response:
    """The page."""
    with server.http() as http:
        return http.get("/")


def policy(served: httpx.Response) -> dict[str, str]:
    """Its Content-Security-Policy by directive."""
    parts = served.headers["content-security-policy"].split("; ")
    return dict(part.split(" ", 1) for part in parts)


def test_the_policy_allows_only_the_script_and_style_that_stand_in_it(served: httpx.Response) -> None:
    assert served.status_code == 200
    allowed = policy(served)
    assert allowed["default-src"] == "'none'"
    for tag in ("script", "style"):
        (inline,) = re.findall(f"<{tag}>(.*?)</{tag}>", served.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert allowed[f"{tag}-src"] == f"'sha256-{digest}'"
    assert "unsafe" not in served.headers["content-security-policy"]
    assert allowed["connect-src"] == "'self'"
    assert allowed["frame-ancestors"] == "'none'"
    assert served.headers["x-content-type-options"] == "nosniff"


def test_it_refers_to_nothing_outside(served: httpx.Response) -> None:
    addresses = set(re.findall(r"https?://[^\s'\"<>]+", served.text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, which nobody fetches
    assert not re.findall(r"<(?:script|link|iframe|object|embed)[^>]*\s(?:src|data)=", served.text)
    assert not re.findall(r"\s(?:style|on[a-z]+)=", served.text.split("<script>")[0])
    assert demo_text() in served.text
    assert "@question@" not in served.text


def test_the_example_is_the_packages_picture(server: Running) -> None:
    with server.http() as http:
        example = http.get("/?example")
        refused = http.post("/", content=b"")
    assert example.headers["content-type"] == "image/png"
    assert example.content == demo_picture()
    assert refused.status_code == 405
