"""Server-sent events: an answer in chunks as it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vicrop_engine.server.json_documents import Document, encode
from vicrop_engine.server.openai.events import FIRST, Event
from vicrop_engine.server.openai.responses import UNFINISHED, Completion, logprobs_field, usage
from vicrop_engine.server.problem import ClientGone, Problem
from vicrop_engine.vicrop.answer import Answer

END = b"data: [DONE]\n\n"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class GrowingText:
    """What is new each time a text has grown; pieces put together are the text."""

    def __init__(self) -> None:
        self._said = ""

    def more(self, text: str, *, whole: bool = False) -> str:
        """The piece to say now. A character that is not all there is held back unless the text is `whole`."""
        ready = text if whole else text.rstrip(UNFINISHED)
        if len(ready) <= len(self._said):
            return ""
        piece = ready[len(self._said) :]
        self._said = ready
        return piece


class EventStream(Response):
    """Sends `chunks` one by one as they come, and closes them whatever happens."""

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncGenerator[bytes], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(headers={**HEADERS, **(headers or {})})
        del self.headers["content-length"]
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer over ASGI."""
        async with aclosing(self._chunks) as chunks:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def chunks(
    events: AsyncGenerator[Event],
    completion: Completion,
    vicrop: Callable[[Answer], Document],
    failed: Callable[[Exception], Problem],
    *,
    include_usage: bool,
) -> AsyncGenerator[bytes]:
    """The events as OpenAI's chunks, from the first on, which is had by then; closes them.

    The `vicrop` document is in the last one. An error after the first event, when the status is sent already,
    is a chunk of its own: the problem `failed` makes of it.
    """
    unused: dict[str, Any] = {"usage": None} if include_usage else {}
    growing, first = GrowingText(), ""
    yield line(completion.chunk({"role": "assistant", "content": ""}, **unused))
    try:
        async with aclosing(events):
            async for event in events:
                if event.kind == FIRST:
                    if event.text != first:  # an end sign makes no text
                        first = event.text
                        yield line(completion.aside(vicrop={"answer_without_crop": first}, **unused))
                    continue
                piece = growing.more(event.text, whole=event.answer is not None)
                if piece:
                    yield line(completion.chunk({"content": piece}, **unused))
                if event.answer is not None:
                    yield await asyncio.to_thread(_last, event.answer, completion, vicrop, include_usage)
    except ClientGone:
        raise
    except Exception as error:
        problem = failed(error)
        yield line(problem.to_json())
    yield END


async def begun(events: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
    """The same events, once the first is there: what is wrong with a request is raised before."""
    first = await anext(events)

    async def all_of_them() -> AsyncGenerator[Event]:
        async with aclosing(events):
            yield first
            async for event in events:
                yield event

    return all_of_them()


def _last(
    answer: Answer, completion: Completion, vicrop: Callable[[Answer], Document], include_usage: bool
) -> bytes:
    told: dict[str, Any] = {"usage": None} if include_usage else {"vicrop": vicrop(answer)}
    second = b""
    if completion.number > 1:
        second = line(completion.second(answer, **({"usage": None} if include_usage else {})))
    last = completion.chunk({}, completion.reason(answer), probabilities=logprobs_field(answer), **told)
    if not include_usage:
        return second + line(last)
    end = completion.aside(usage=usage(answer, completion.number), vicrop=vicrop(answer))
    return second + line(last) + line(end)


def line(document: Document) -> bytes:
    """One server-sent event."""
    return b"data: " + encode(document) + b"\n\n"
