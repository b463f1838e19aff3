"""Pieces of a text that grows, and a stream that nobody reads to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests.server.fake_scheduler import an_answer
from vicrop_engine.server.openai.events import FINAL, Event
from vicrop_engine.server.openai.responses import Completion
from vicrop_engine.server.openai.sse import END, EventStream, GrowingText, begun, chunks
from vicrop_engine.server.problem import ClientGone, problem_of


@pytest.mark.parametrize(
    ("texts", "pieces"),
    [
        (["K", "K7", "K7"], ["K", "7", ""]),
        (["", "a b", "a b c"], ["", "a b", " c"]),
        (["\ufffd", "\ufffd\ufffd", "é", "é!"], ["", "", "é", "!"]),
        (["a\ufffd", "aé\ufffd"], ["a", "é\ufffd"]),
    ],
)
def test_pieces_put_together_are_the_text(texts: list[str], pieces: list[str]) -> None:
    growing = GrowingText()
    said = [growing.more(text, whole=text is texts[-1]) for text in texts]
    assert said == pieces
    assert "".join(said) == texts[-1]


class Events:
    """Events of an answer; knows whether they were closed."""

    def __init__(self, end: Exception | None = None) -> None:
        self.end, self.closed = end, False

    async def __call__(self) -> AsyncGenerator[Event]:
        try:
            yield Event(FINAL, "K")
            if self.end is not None:
                raise self.end
            yield Event(FINAL, "K7", an_answer("K7"))
        finally:
            self.closed = True


async def send_all(events: Events, send: Any) -> None:
    completion = Completion("m", (2,), id="i", created=0)
    first = await begun(events())
    stream = EventStream(chunks(first, completion, lambda _: {}, problem_of, include_usage=False))
    await stream({"type": "http"}, None, send)


def sent(events: Events) -> list[dict[str, Any]]:
    messages = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    asyncio.run(send_all(events, send))
    return messages


def test_a_stream_is_sent_piece_by_piece_and_closed() -> None:
    events = Events()
    start, *bodies = sent(events)
    assert start["status"] == 200
    headers = dict(start["headers"])
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert b"content-length" not in headers
    assert len(bodies) == 6, "role, two pieces, the last chunk, its end, the body's"
    assert bodies[-2]["body"] == END
    assert (bodies[-1]["body"], bodies[-1]["more_body"]) == (b"", False)
    assert events.closed


def test_events_are_closed_when_the_client_goes() -> None:
    events = Events(ClientGone())
    with pytest.raises(ClientGone):
        sent(events)
    assert events.closed


def test_events_are_closed_when_sending_fails() -> None:
    events = Events()

    async def send(message: dict[str, Any]) -> None:
        if b'"content":"K"' in message.get("body", b""):
            raise OSError("gone")

    async def sending() -> bool:
        with pytest.raises(OSError, match="gone"):
            await send_all(events, send)
        return events.closed

    assert asyncio.run(sending()), "closed at once, not when the loop ends"
