"""An engine in this process as what is measured: behind a scheduler, or alone and fed one at a time."""

from __future__ import annotations

import time
from dataclasses import replace

from vicrop_engine.engine import ViCropEngine
from vicrop_engine.errors import ViCropError
from vicrop_engine.measure.bench.outcome import Outcome, Said
from vicrop_engine.measure.bench.workload import Query
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.vicrop.answer import Answer
from vicrop_engine.vicrop.params import AskParams


class ScheduledEngine:
    """Queries go through the scheduler, with these settings."""

    def __init__(self, scheduler: Scheduler, params: AskParams) -> None:
        self._scheduler, self._params = scheduler, params

    def ask(self, query: Query, start: float | None = None) -> Outcome:
        """Submit and wait."""
        start = time.monotonic() if start is None else start
        try:
            handle = self._scheduler.submit(
                query.image,
                query.question,
                replace(self._params, high_res=query.high_res),
                on_first_answer=_unheard,
            )
            answer = handle.future.result()
        except ViCropError as error:
            return Outcome(query, start, None, time.monotonic(), error=type(error).__name__)
        end = time.monotonic()
        queued = None if handle.began is None else handle.began - handle.arrived
        return Outcome(query, start, handle.first_token, end, said(answer), None, queued, _reused(handle))

    def processor_seconds(self) -> float:
        """This process's, with all its threads."""
        return time.process_time()


class BareEngine:
    """The rival: the engine alone, everything kept of pictures thrown away before each query."""

    def __init__(self, engine: ViCropEngine, params: AskParams) -> None:
        self._engine, self._params = engine, params

    def ask(self, query: Query, start: float | None = None) -> Outcome:
        """Forget, and ask."""
        self._engine.forget()
        first: list[float] = []
        start = time.monotonic() if start is None else start
        try:
            params = replace(self._params, high_res=query.high_res)
            answer = self._engine.answer(
                query.image, query.question, params, lambda _: first.append(time.monotonic())
            )
        except ViCropError as error:
            return Outcome(query, start, None, time.monotonic(), error=type(error).__name__)
        end = time.monotonic()
        return Outcome(query, start, first[0] if first else end, end, said(answer), None, 0.0)

    def processor_seconds(self) -> float:
        """This process's, with all its threads."""
        return time.process_time()


def said(answer: Answer) -> Said:
    """What of an answer has to be the same each time."""
    return Said(answer.answer, answer.answer_without_crop, answer.crop_box)


def _reused(handle: RequestHandle) -> tuple[str, ...]:
    counters = handle.counters
    hits = {
        "prefix": counters.prefix_hits,
        "image_embeds": counters.vision_hits,
        "general": counters.general_hits,
        "shared": handle.shared,
    }
    return tuple(name for name, count in hits.items() if count)


def _unheard(_: str) -> None:
    """Heard by nobody: to be streamed is what makes the first token's time known."""
