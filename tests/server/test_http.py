"""HTTP/1.1 as clients and proxies speak it to a real server: Expect, chunks, and pages of other origins."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.server.running import MODEL, SECONDS, Running, chat, serving, wait_until
from vicrop_engine import ViCropEngine
from vicrop_engine.errors import SettingError
from vicrop_engine.server.settings import ServerSettings
from vicrop_engine.serving.scheduler import Scheduler

PAGE = "https://page.example"
CHAT = "/v1/chat/completions"
ALIASES = ("gpt-4o", "org/vision-model")


@pytest.fixture(scope="module")
def named(engine: ViCropEngine) -> Iterator[Running]:
    """A server that a page may ask, and that goes by two names."""
    settings = ServerSettings(allowed_origins=(PAGE,), models=ALIASES, api_keys=("secret",))
    with Scheduler(engine) as scheduler, serving(scheduler, settings) as running:
        wait_until(lambda: running.app.state.readiness.is_ready)
        yield running


def head(*lines: str) -> bytes:
    """The head of a chat request with these lines."""
    named = [f"POST {CHAT} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *lines]
    return "\r\n".join([*named, "", ""]).encode()


def connected(server: Running) -> socket.socket:
    """A socket to the server."""
    return socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), timeout=SECONDS)


def test_a_client_that_waits_is_told_to_go_on(server: Running) -> None:
    """As curl does before any body of more than a megabyte."""
    body = json.dumps(chat()).encode()
    with connected(server) as connection:
        connection.sendall(head("Expect: 100-continue", f"Content-Length: {len(body)}"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_waits_with_too_much_is_told_so_at_once(server: Running) -> None:
    with connected(server) as connection:
        connection.sendall(head("Expect: 100-continue", f"Content-Length: {10**9}"))
        answer = connection.recv(1000)
        while b"\r\n\r\n{" not in answer:  # its head may come by itself
            answer += connection.recv(1000)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"--max-body-mib" in answer


def test_a_body_in_chunks_is_read(server: Running) -> None:
    body = json.dumps(chat()).encode()
    with connected(server) as connection:
        connection.sendall(head("Transfer-Encoding: chunked"))
        for at in range(0, len(body), 5000):
            part = body[at : at + 5000]
            connection.sendall(b"%x\r\n" % len(part) + part + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def preflight(server: Running, origin: str, **headers: str) -> httpx.Response:
    """What a browser asks before it lets a page ask."""
    wanted = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    with server.http() as http:
        return http.options(CHAT, headers=wanted)


def test_a_page_of_an_allowed_origin_may_ask(named: Running) -> None:
    answer = preflight(named, PAGE, Access_Control_Request_Private_Network="true")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-private-network"] == "true"
    assert "authorization" in answer.headers["access-control-allow-headers"]
    keyed = named.post(chat(temperature=1, model=ALIASES[0]), Origin=PAGE, Authorization="Bearer secret")
    assert keyed.status_code == 200
    assert keyed.headers["access-control-allow-origin"] == PAGE
    assert "X-Vicrop-Notices" in keyed.headers["access-control-expose-headers"]


def test_so_it_reads_why_it_was_refused(named: Running) -> None:
    answer = named.post(chat(), Origin=PAGE)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, PAGE)


def test_pages_of_other_origins_may_not(named: Running, server: Running) -> None:
    for running, origin in ((named, "https://evil.example"), (named, f"{PAGE}:8443"), (server, PAGE)):
        refused = preflight(running, origin)
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers
        assert running.post(chat(), Origin=origin).status_code == 403


def test_every_page_may_where_every_one_is_allowed(engine: ViCropEngine) -> None:
    with (
        Scheduler(engine) as scheduler,
        serving(scheduler, ServerSettings(allowed_origins=("*",))) as running,
    ):
        assert preflight(running, "https://any.example").headers["access-control-allow-origin"] == "*"
        assert running.post(chat(), Origin="null").headers["access-control-allow-origin"] == "*"
        with running.http() as http:  # a name of its own does not make a page this machine's
            assert http.get("/v1/models", headers={"Host": "evil.example", "Origin": PAGE}).status_code == 403


@pytest.mark.parametrize("origin", ["page.example", "https://page.example/", "ftp://a", "https://*", ""])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(SettingError, match="wanted one as browsers send it"):
        ServerSettings(allowed_origins=(origin,))


def test_the_model_goes_by_each_of_its_names(named: Running) -> None:
    key = {"Authorization": "Bearer secret"}
    with named.http() as http:
        listed = http.get("/v1/models", headers=key).json()["data"]
        assert [model["id"] for model in listed] == list(ALIASES)
        assert [http.get(f"/v1/models/{name}", headers=key).json()["id"] for name in ALIASES] == list(ALIASES)
    for name, called in ((ALIASES[1], ALIASES[1]), (None, ALIASES[0])):
        assert named.post(chat(max_tokens=1, model=name), **key).json()["model"] == called
    refused = named.post(chat(model=MODEL), **key)
    assert refused.status_code == 404
    assert "'gpt-4o', 'org/vision-model'" in refused.json()["error"]["message"]
