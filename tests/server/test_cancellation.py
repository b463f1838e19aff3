"""Requests given up: by their client, by their time, by a full queue; their handles are cancelled at once."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.server.fake_scheduler import FakeScheduler, an_answer, is_cancelled
from tests.server.running import Running, chat, serving, small_picture, wait_until
from vicrop_engine.errors import (
    ClosedError,
    DeadlineError,
    EngineDamagedError,
    PictureTooLargeError,
    QueueFullError,
    RequestCancelledError,
    RunError,
    ViCropError,
    not_enough_memory,
)
from vicrop_engine.server.settings import ServerSettings


def ask(**more: Any) -> dict[str, Any]:
    return chat("What is it?", small_picture(), **more)


def connect(server: Running, document: dict[str, Any]) -> socket.socket:
    """A connection that has sent this request and waits."""
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps(document).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
    return connection


def read_until(connection: socket.socket, end: str) -> str:
    """What comes, up to and with these characters."""
    read = b""
    while end.encode() not in read:
        piece = connection.recv(4096)
        assert piece, read
        read += piece
    return read.decode()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_cancels_its_ticket(stream: bool) -> None:
    scheduler = FakeScheduler()
    with serving(scheduler) as server:
        connection = connect(server, ask(stream=stream))
        handle = scheduler.next().handle
        assert not is_cancelled(handle)
        connection.close()
        wait_until(lambda: is_cancelled(handle), "the cancellation")
        handle.future.set_exception(RequestCancelledError("the request was cancelled"))
        with server.http() as http:
            counted = 'vicrop:requests_total{status="499"} 1.0'
            wait_until(lambda: counted in http.get("/metrics").text, "the count")


def test_a_client_that_leaves_in_the_middle_of_a_stream_cancels_its_ticket() -> None:
    scheduler = FakeScheduler()
    with serving(scheduler) as server:
        connection = connect(server, ask(stream=True))
        submitted = scheduler.next()
        submitted.keywords["on_answer"]("K")
        read_until(connection, '"content":"K"')
        assert not is_cancelled(submitted.handle)
        connection.close()
        wait_until(lambda: is_cancelled(submitted.handle), "the cancellation")
        submitted.handle.future.set_result(an_answer())  # too late for anybody


def test_an_answer_cancels_nothing() -> None:
    scheduler = FakeScheduler()
    with serving(scheduler) as server:
        connection = connect(server, ask())
        handle = scheduler.next().handle
        handle.future.set_result(an_answer())
        assert read_until(connection, "}}").startswith("HTTP/1.1 200")
        connection.close()
        assert not is_cancelled(handle)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_may_allow_less_time(stream: bool) -> None:
    scheduler = FakeScheduler()
    with serving(scheduler) as server:
        response = server.post(ask(stream=stream), **{"X-Request-Timeout": "0.05"})
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "deadline_exceeded"
        assert "0.05 seconds" in response.json()["error"]["message"]
        assert is_cancelled(scheduler.next().handle)


def test_a_client_may_not_allow_more_time_than_the_server() -> None:
    scheduler = FakeScheduler()
    with serving(scheduler, ServerSettings(deadline=0.05)) as server:
        assert server.post(ask(), **{"X-Request-Timeout": "3000"}).status_code == 504


def refused(error: ViCropError, status: int) -> Any:
    """The answer when the scheduler refuses so."""
    with serving(FakeScheduler(refuse=error)) as server:
        response = server.post(ask())
    assert response.status_code == status
    return response


def test_a_full_queue_says_when_to_come_back() -> None:
    response = refused(QueueFullError(64, 2.3), 429)
    assert response.headers["Retry-After"] == "3"
    assert response.json()["error"]["type"] == "rate_limit_error"
    assert "64 requests are waiting" in response.json()["error"]["message"]


def test_a_closing_scheduler_is_unavailable() -> None:
    assert refused(ClosedError("closing"), 503).json()["error"]["type"] == "server_error"


def test_too_little_memory_says_when_to_come_back() -> None:
    response = refused(not_enough_memory("for this request"), 503)
    assert response.headers["Retry-After"] == "2"
    assert response.json()["error"]["code"] == "not_enough_memory"


ENDS = [
    (DeadlineError("no answer within 2 seconds"), 504, "no answer within 2 seconds"),
    (RequestCancelledError("cancelled"), 503, "stopping"),
    (RunError("/secret/engine failed"), 500, "whose log says more"),
    (EngineDamagedError("/secret/engine is damaged"), 500, "whose log says more"),
    (ValueError("/secret/engine"), 500, "whose log says more"),
    (not_enough_memory("to open /secret/engine"), 503, "too little memory for this request now"),
    (MemoryError("/secret"), 503, "too little memory for this request now"),
    (PictureTooLargeError("the picture takes 400 MB; give a smaller one"), 413, "give a smaller one"),
]


@pytest.mark.parametrize(("error", "status", "words"), ENDS, ids=lambda value: type(value).__name__)
def test_how_a_ticket_ends_is_the_status(error: Exception, status: int, words: str) -> None:
    scheduler = FakeScheduler()
    with serving(scheduler) as server:
        connection = connect(server, ask())
        scheduler.next().handle.future.set_exception(error)
        read = read_until(connection, "}}")
        connection.close()
    assert read.startswith(f"HTTP/1.1 {status} ")
    assert words in read
    assert "secret" not in read


def test_an_error_in_the_middle_of_a_stream_is_an_event() -> None:
    scheduler = FakeScheduler()
    with serving(scheduler) as server:
        connection = connect(server, ask(stream=True))
        submitted = scheduler.next()
        submitted.keywords["on_answer"]("K")
        submitted.handle.future.set_exception(RunError("/secret/engine failed"))
        read = read_until(connection, "[DONE]")
        connection.close()
    assert '"content":"K"' in read
    assert 'data: {"error":{"message":"the request failed inside the server' in read
    assert "secret" not in read
