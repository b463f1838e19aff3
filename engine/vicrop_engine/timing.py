"""A stopwatch that is always in exactly one stage, so that the stages add up to the total by construction."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

STAGES = ("preprocess", "vision", "prefill", "heatmap", "crop_vision", "crop_prefill", "decode")


class Span(NamedTuple):
    """A stage from `start` to `end`, in seconds of the clock."""

    stage: str
    start: float
    end: float


class Stopwatch:
    """Seconds per stage; `enter` ends the current stage and starts or resumes another.

    `spans` are the stages in the order they were gone through.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._stage = STAGES[0]
        self._since = clock()
        self.spans: list[Span] = []

    def enter(self, stage: str) -> None:
        """Switch to `stage`, one of STAGES."""
        now = self._clock()
        self._seconds[self._stage] += now - self._since
        self.spans.append(Span(self._stage, self._since, now))
        self._stage, self._since = stage, now
        self._seconds[stage] += 0.0

    def finish(self) -> dict[str, float]:
        """Seconds of every stage in order, then "total", their sum."""
        self.enter(self._stage)
        return {**self._seconds, "total": sum(self._seconds.values())}
