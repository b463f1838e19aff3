"""One request from its handle to its answer: what is heard of it on the event loop, and who gives it up.

The scheduler speaks on threads of its own; here all it says becomes one stream of events, together with the
client's going away and the end of the time allowed. Whatever ends the stream before the answer cancels the
handle.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple

from starlette.types import Receive

from vicrop_engine.errors import DeadlineError
from vicrop_engine.server.openai.chat import ChatRequest
from vicrop_engine.server.problem import ClientGone
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.vicrop.answer import Answer

FIRST, FINAL = "first", "final"

_DONE, _GONE, _LATE = "done", "gone", "late"


class Event(NamedTuple):
    """The text so far of the first or the final answer; the last event has the whole `answer`."""

    kind: str
    text: str
    answer: Answer | None = None


class RequestEvents:
    """What a handle and a client say, on the running event loop."""

    def __init__(self, receive: Receive) -> None:
        self._loop = asyncio.get_running_loop()
        self._receive = receive
        self._heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._handle: RequestHandle | None = None

    @property
    def handle(self) -> RequestHandle:
        """The accepted request."""
        assert self._handle is not None, "submitted before"
        return self._handle

    async def submit(
        self, scheduler: Scheduler, image: bytes | None, chat: ChatRequest, seconds: float
    ) -> RequestHandle:
        """Hand the request in, off the event loop. Raises QueueFullError and ClosedError."""
        self._handle = await asyncio.to_thread(
            scheduler.submit,
            image,
            chat.question,
            chat.params,
            deadline=seconds,
            on_first_answer=self._hears(FIRST) if chat.stream_first_answer else None,
            on_answer=self._hears(FINAL) if chat.stream else None,
        )
        return self._handle

    async def events(self) -> AsyncGenerator[Event]:
        """The texts as they grow and at last the answer.

        Raises ClientGone, DeadlineError, and the error that ended the handle.
        """
        handle = self.handle
        handle.future.add_done_callback(lambda _: self._tell(_DONE, ""))
        left = handle.deadline - handle.clock()
        timer = self._loop.call_later(left, self._heard.put_nowait, (_LATE, ""))
        watcher = asyncio.create_task(self._watch())
        try:
            while True:
                kind, text = await self._heard.get()
                if kind in (FIRST, FINAL):
                    yield Event(kind, text)
                elif kind == _DONE:
                    answer = handle.future.result()
                    yield Event(FINAL, answer.answer, answer)
                    return
                elif kind == _GONE:
                    raise ClientGone
                else:
                    raise DeadlineError(f"no answer within {handle.deadline - handle.arrived:g} seconds")
        finally:
            timer.cancel()
            watcher.cancel()
            if not handle.future.done():
                handle.cancel()

    def _hears(self, kind: str) -> Callable[[str], None]:
        return lambda text: self._tell(kind, text)

    def _tell(self, kind: str, text: str) -> None:
        """From any thread; a loop that has ended has nobody to tell."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._heard.put_nowait, (kind, text))

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._heard.put_nowait((_GONE, ""))
