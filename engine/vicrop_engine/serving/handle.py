"""One accepted request: its answer to come, and the way to give it up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from vicrop_engine.counters import Counters, Tally
from vicrop_engine.errors import DeadlineError, RequestCancelledError, RequestError
from vicrop_engine.vicrop.answer import Answer

Clock = Callable[[], float]


class RequestHandle:
    """One accepted request, done when `future` is: an Answer, or the ViCropError that ended it.

    `arrived`, `began` and `first_token` are seconds of `clock`; the latter two are None until then.
    `shared` says that the work was another request's, who asked the same at the same time.
    """

    def __init__(self, number: int, deadline: float, tally: Tally, clock: Clock = time.monotonic) -> None:
        self.number, self.clock, self.tally = number, clock, tally
        self.future: Future[Answer] = Future()
        self.arrived = clock()
        self.deadline = self.arrived + deadline
        self.began: float | None = None
        self.first_token: float | None = None
        self.shared = False
        self._cancelled = threading.Event()
        self._on_cancel: list[Callable[[], object]] = []

    @property
    def counters(self) -> Counters:
        """What was run and reused for this request so far."""
        return self.tally.snapshot()

    def cancel(self) -> None:
        """Nobody wants the answer any more: it ends at its next stage, and what it holds is free at once."""
        self._cancelled.set()
        for told in self._on_cancel:
            told()

    def on_cancel(self, told: Callable[[], object]) -> None:
        """From now on `cancel` calls this too; now, where it was called before."""
        self._on_cancel.append(told)
        if self._cancelled.is_set():
            told()

    @property
    def seconds_left(self) -> float:
        """Seconds until its deadline; below 0 after it."""
        return self.deadline - self.clock()

    @property
    def ended(self) -> RequestError | None:
        """Why going on makes no sense, if it does not."""
        if self._cancelled.is_set():
            return RequestCancelledError("the request was cancelled")
        if self.clock() > self.deadline:
            seconds = self.deadline - self.arrived
            return DeadlineError(
                f"no answer within {seconds:g} seconds; ask again when there is less load, or allow more time"
            )
        return None

    def check(self) -> None:
        """Raises RequestCancelledError or DeadlineError where going on makes no sense."""
        ended = self.ended
        if ended is not None:
            raise ended

    def mark_token(self) -> None:
        """The first token of an answer is there."""
        if self.first_token is None:
            self.first_token = self.clock()
