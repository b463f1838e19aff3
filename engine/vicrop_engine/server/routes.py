"""Where requests come in: what happens to a chat request from its body to its answer, and the small ones."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from vicrop_engine.server.guard.untrusted_image import load_image
from vicrop_engine.server.json_documents import Document, body_text, encode
from vicrop_engine.server.openai.chat import ChatRequest, Served, decode, read_chat, told
from vicrop_engine.server.openai.events import Event, RequestEvents
from vicrop_engine.server.openai.manner import Manner, header_of
from vicrop_engine.server.openai.reply import ChatReply, Reply
from vicrop_engine.server.openai.responses import Completion, vicrop_field
from vicrop_engine.server.openai.responses_reply import ResponsesReply
from vicrop_engine.server.openai.responses_request import ECHOED, as_chat, renamed
from vicrop_engine.server.openai.sse import EventStream, begun
from vicrop_engine.server.ops.metrics import Metrics
from vicrop_engine.server.ops.readiness import Readiness
from vicrop_engine.server.ops.request_log import CHAT, RESPONSES, facts_of, noted_problem
from vicrop_engine.server.ops.traces import Traces
from vicrop_engine.server.problem import ClientGone, Problem, bad_request
from vicrop_engine.server.settings import ServerSettings
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.vicrop.answer import Answer

TIMEOUT = "X-Request-Timeout"
JSON = "application/json"
LARGE = 1 << 20  # bytes of a body
SCRAPED = "text/plain; version=0.0.4; charset=utf-8"


class Routes:
    """The handlers over one scheduler."""

    def __init__(
        self,
        scheduler: Scheduler,
        settings: ServerSettings,
        metrics: Metrics,
        readiness: Readiness,
        traces: Traces,
    ) -> None:
        self._scheduler, self._settings = scheduler, settings
        self._metrics, self._readiness, self._traces = metrics, readiness, traces
        manifest = scheduler.engine.model.manifest
        self._served = Served(settings.models or (manifest.model.name,), manifest.decoder.context_length)
        self._end_signs = manifest.tokens.eos
        self._started = int(time.time())
        self._reading = asyncio.Lock()

    def routes(self) -> list[BaseRoute]:
        """Every address there is."""
        return [
            Route(CHAT, self.chat, methods=["POST"]),
            Route(RESPONSES, self.responses, methods=["POST"]),
            Route("/v1/completions", _elsewhere, methods=["GET", "POST"]),
            Route("/v1/models", self.models),
            Route("/v1/models/{model:path}", self.model),
            Route("/health", self.health),
            Route("/metrics", self.metrics),
        ]

    async def chat(self, request: Request) -> Response:
        """An answer, whole or in chunks."""

        def reply(completion: Completion, chat: ChatRequest) -> Reply:
            return ChatReply(completion, chat.include_usage)

        return await self._answer(request, self._chat, reply)

    async def responses(self, request: Request) -> Response:
        """The same by the newer of OpenAI's APIs."""
        echoed: Document = {}

        def read(document: Document) -> ChatRequest:
            manner = Manner(self._settings.strict)
            echoed.update({key: document[key] for key in ECHOED if document.get(key) is not None})
            try:
                return read_chat(as_chat(document, manner), self._settings, self._served, manner)
            except Problem as problem:
                raise renamed(problem) from None

        return await self._answer(request, read, lambda completion, _: ResponsesReply(completion, echoed))

    async def _answer(
        self,
        request: Request,
        read: Callable[[Document], ChatRequest],
        reply_of: Callable[[Completion, ChatRequest], Reply],
    ) -> Response:
        seconds = self._seconds(request)
        chat, image = await self._read(request, read)
        conversation = RequestEvents(request.receive)
        handle = await conversation.submit(self._scheduler, image, chat, seconds)
        self._metrics.follow(handle)
        facts = facts_of(request.scope)
        self._traces.follow(handle, request.headers, facts["request_id"])
        facts["stream"] = chat.stream
        end_signs = () if chat.params.answer_form.ignore_eos else self._end_signs
        reply = reply_of(Completion(chat.model, end_signs, chat.number), chat)
        headers = header_of(chat.notices)

        def vicrop(answer: Answer) -> Document:
            facts.update(_logged(answer, handle))
            return vicrop_field(answer, handle, heatmap=chat.return_heatmap, notices=chat.notices)

        events = conversation.events()
        if chat.stream:
            first = await begun(events)
            noted = partial(noted_problem, request.scope)
            return EventStream(reply.stream(first, vicrop, noted), headers)
        answer = await _last(events)
        body = await asyncio.to_thread(lambda: encode(reply.whole(answer, vicrop(answer))))
        return Response(body, headers=headers, media_type=JSON)

    async def models(self, _: Request) -> Response:
        """The one model there is, by each of its names."""
        return _json({"object": "list", "data": [self._model_facts(name) for name in self._served.names]})

    async def model(self, request: Request) -> Response:
        """The same by one name, which may have slashes."""
        name = request.path_params["model"]
        if name not in self._served.names:
            message = f"unknown model; this server has {told(self._served.names)}"
            raise Problem(404, message, param="model", code="model_not_found")
        return _json(self._model_facts(name))

    async def health(self, _: Request) -> Response:
        """Whether requests should be sent here."""
        return _json({"status": self._readiness.status}, 200 if self._readiness.is_ready else 503)

    async def metrics(self, _: Request) -> Response:
        """What Prometheus scrapes."""
        return Response(await asyncio.to_thread(self._metrics.render), headers={"Content-Type": SCRAPED})

    def _model_facts(self, name: str) -> Document:
        return {"id": name, "object": "model", "created": self._started, "owned_by": "vicrop-engine"}

    async def _read(
        self, request: Request, read: Callable[[Document], ChatRequest]
    ) -> tuple[ChatRequest, bytes | None]:
        """The request and its encoded picture, read away from the event loop, large ones one by one.

        A body is twice in memory while it is read: as bytes and as text, or as text and as a document. Raises
        Problem, BodyError, ImageError and ClientGone.
        """
        parts = await self._body(request)
        is_large = sum(map(len, parts)) > LARGE
        async with self._reading if is_large else contextlib.nullcontext():
            chat = await asyncio.to_thread(lambda: read(_document(parts)))
        if chat.image_url is None:
            return chat, None
        is_large = len(chat.image_url) > LARGE
        async with self._reading if is_large else contextlib.nullcontext():
            image = await load_image(chat.image_url, self._settings)
        return replace(chat, image_url=""), image  # which is as long as the picture

    def _chat(self, document: Document) -> ChatRequest:
        return read_chat(document, self._settings, self._served)

    @staticmethod
    async def _body(request: Request) -> list[bytes]:
        """The body's parts, which the request does not keep. Raises Problem and ClientGone."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != JSON:
            raise Problem(415, f"got a body of type {kind[:100]!r}, wanted Content-Type: {JSON}")
        try:
            return [part async for part in request.stream() if part]
        except ClientDisconnect:
            raise ClientGone from None

    def _seconds(self, request: Request) -> float:
        """The time an answer may take: the server's, or less where the client says so. Raises Problem."""
        text = request.headers.get(TIMEOUT)
        if text is None:
            return self._settings.deadline
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise bad_request(f"got {TIMEOUT} {text[:40]!r}, wanted seconds above 0", TIMEOUT)
        return min(seconds, self._settings.deadline)


def _document(parts: list[bytes]) -> Document:
    """The document in a body, of which nothing is kept."""
    text = body_text(parts.pop() if len(parts) == 1 else b"".join(parts))
    return decode(text)


async def _elsewhere(_: Request) -> Response:
    message = (
        "there is nothing at /v1/completions, for a model that sees; send messages to /v1/chat/completions"
    )
    raise Problem(404, message, code="unsupported_endpoint")


async def _last(events: AsyncGenerator[Event]) -> Answer:
    async with aclosing(events):
        async for event in events:
            if event.answer is not None:
                return event.answer
    raise AssertionError("the last event has the answer")


def _logged(answer: Answer, handle: RequestHandle) -> dict[str, Any]:
    """What the log says of an answer: nothing of question, picture or text."""
    began, token = (
        None if at is None else round(at - handle.arrived, 4) for at in (handle.began, handle.first_token)
    )
    return {
        "vicrop_method": answer.method,
        "high_res": answer.high_res,
        "crop_skipped": answer.crop_skipped,
        "tokens": vars(answer.tokens).copy(),
        "shared": handle.shared,
        "queue_seconds": began,
        "first_token_seconds": token,
    }


def _json(document: Document, status: int = 200) -> Response:
    return Response(encode(document), status, media_type=JSON)
