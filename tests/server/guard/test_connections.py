"""Connections over real sockets on 127.0.0.1: held for nothing, not HTTP, too many, never read."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from vicrop_engine.server.guard.body_limits import MAX_HEADER_BYTES, BodyLimits
from vicrop_engine.server.guard.connections import protocol_for
from vicrop_engine.server.settings import ServerSettings

SECONDS = 30.0
LARGE = bytes(64 << 20)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body it got; at /large with more than any socket buffers."""
    message = await receive()
    body = LARGE if scope["path"] == "/large" else message["body"]
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    for start in range(0, max(1, len(body)), 1 << 16):
        more = start + (1 << 16) < len(body)
        await send({"type": "http.response.body", "body": body[start : start + (1 << 16)], "more_body": more})


@dataclass(frozen=True)
class Bounded:
    """A running server."""

    port: int
    server: uvicorn.Server


@contextlib.contextmanager
def serving(**settings: float) -> Iterator[Bounded]:
    """A server with these settings."""
    chosen = ServerSettings(**settings)  # type: ignore[arg-type]
    config = uvicorn.Config(
        BodyLimits(echo, chosen),
        http=protocol_for(chosen),
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Bounded(listener.getsockname()[1], server)
        finally:
            server.should_exit = True
            thread.join()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=SECONDS)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    answer = b""
    while part := connection.recv(1 << 16):
        answer += part
    return answer


def refused(answer: bytes, status: int) -> dict[str, Any]:
    """The error of an answer that has this status and ends its connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert b"connection: close" in head.lower()
    error: dict[str, Any] = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def request(body: bytes = b"", path: str = "/", close: bool = True) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *(["Connection: close"] if close else []), "", ""]).encode() + body


def test_requests_go_through_and_connections_stay() -> None:
    with serving() as bounded, connect(bounded.port) as connection:
        connection.sendall(request(b"one", close=False) + request(b"two"))
        assert [b"one" in (answer := read_all(connection)), b"two" in answer] == [True, True]


@pytest.mark.parametrize("start", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: a\r\nX: "])
def test_a_connection_without_a_whole_request_is_ended(start: bytes) -> None:
    with serving(header_seconds=0.2) as bounded, connect(bounded.port) as connection:
        connection.sendall(start)
        assert refused(read_all(connection), 408)["code"] == "request_too_slow"


def test_dripping_headers_do_not_win_time() -> None:
    with serving(header_seconds=0.3) as bounded, connect(bounded.port) as connection:
        connection.settimeout(0.05)
        connection.sendall(b"GET / HTTP/1.1\r\n")
        answer = b""
        for _ in range(600):
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(1 << 16)
                break
            connection.sendall(b"X")
        assert refused(answer, 408)


def test_a_body_that_stalls_is_ended_too() -> None:
    with serving(body_seconds=0.2) as bounded, connect(bounded.port) as connection:
        connection.sendall(request(b"all of it")[:-3])
        assert refused(read_all(connection), 408)["code"] == "body_too_slow"


def test_after_a_refusal_the_rest_of_the_body_is_not_waited_for() -> None:
    with serving(max_body_bytes=1000, header_seconds=0.3) as bounded, connect(bounded.port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + bytes(5000))
        assert b"HTTP/1.1 413 " in read_all(connection)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET /" + b"a" * 70000,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
)
def test_what_is_no_http_is_said_so(data: bytes) -> None:
    with serving() as bounded, connect(bounded.port) as connection:
        connection.sendall(data)
        assert refused(read_all(connection), 400)["code"] == "invalid_http"


def test_headers_that_come_at_once_are_bounded_as_well() -> None:
    with serving() as bounded, connect(bounded.port) as connection:
        long = b"\r\nX-Long: " + b"a" * (MAX_HEADER_BYTES + 1)
        connection.sendall(request().replace(b"\r\nHost: localhost", b"\r\nHost: localhost" + long))
        status = read_all(connection).split(b" ")[1]
        assert status in (b"431", b"400")  # as the network cuts it into pieces


def test_more_connections_than_allowed_are_told_to_come_back() -> None:
    with (
        serving(max_connections=2) as bounded,
        connect(bounded.port) as first,
        connect(bounded.port) as second,
    ):
        first.sendall(request(b"one", close=False))
        second.sendall(request(b"two", close=False))
        assert b"200 OK" in first.recv(1 << 16)
        assert b"200 OK" in second.recv(1 << 16)
        with connect(bounded.port) as third:
            assert refused(read_all(third), 503)["code"] == "too_many_connections"
        first.sendall(request(b"again"))
        assert b"200 OK" in read_all(first)
        with connect(bounded.port) as fourth:
            fourth.sendall(request(b"four"))
            assert b"200 OK" in read_all(fourth)


def test_an_answer_that_nobody_reads_is_given_up() -> None:
    with serving(send_seconds=0.2) as bounded, connect(bounded.port) as connection:
        connection.sendall(request(path="/large"))
        waited = threading.Event()
        open_ones = bounded.server.server_state.connections
        while not open_ones:
            waited.wait(0.01)
        while open_ones:
            waited.wait(0.01)
        with contextlib.suppress(ConnectionError):
            assert len(read_all(connection)) < len(LARGE)
