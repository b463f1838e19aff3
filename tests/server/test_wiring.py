"""What the real server has around it: each guard in its place, in front of what it guards."""

from __future__ import annotations

import contextlib

import httpx
import pytest

from scripts.soak_attacks import chat as asking_about
from tests.server.running import Running, chat, serving, small_picture
from vicrop_engine.server.settings import ServerSettings

CHAT = "/v1/chat/completions"


def test_names_that_a_browser_was_lied_to_about(server: Running) -> None:
    with server.http() as http:
        answer = http.get("/v1/models", headers={"Host": "evil.example"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host_not_allowed")
        answer = http.post(CHAT, json={}, headers={"Origin": "https://evil.example"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_not_allowed")
        preflight = http.options(CHAT, headers={"Access-Control-Request-Method": "POST"})
        assert not [name for name in preflight.headers if name.startswith("access-control")]


def test_bodies_and_headers_are_bounded(server: Running) -> None:
    with server.http() as http:
        json = {"Content-Type": "application/json"}
        answer = http.post(CHAT, content=b"[" * 5000, headers=json)
        assert (answer.status_code, "nested" in answer.json()["error"]["message"]) == (400, True)
        with contextlib.suppress(httpx.WriteError):
            answer = http.post(CHAT, content=bytes(65 << 20), headers=json)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_pictures_are_not_fetched_unless_allowed(server: Running) -> None:
    answer = server.post(asking_about("http://127.0.0.1:9/"))
    assert (answer.status_code, "does not fetch" in answer.json()["error"]["message"]) == (400, True)


def test_pictures_on_this_machine_are_not_fetched_even_when_allowed(server: Running) -> None:
    """The loopback address is refused before anything connects to it."""
    with serving(server.scheduler, ServerSettings(allow_remote_images=True)) as running:
        answer = running.post(asking_about(f"{server.url}/health"))
        assert answer.status_code == 400
        assert "port" in answer.json()["error"]["message"]
        answer = running.post(asking_about("http://127.0.0.1/health"))
        assert "not on the public network" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "open_to_all"), [("/health", True), ("/metrics", False), ("/v1/models", False)]
)
def test_keys(server: Running, path: str, open_to_all: bool) -> None:
    with serving(server.scheduler, ServerSettings(api_keys=("a-key-of-ours",))) as running:
        with running.http() as http:
            assert (http.get(path).status_code != 401) == open_to_all
            assert http.get(path, headers={"Authorization": "Bearer a-key-of-ours"}).status_code != 401
        assert running.post(chat("what", small_picture())).status_code == 401
