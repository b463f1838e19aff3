"""Takes requests, bounds how many wait, and answers them."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from vicrop_engine.errors import ClosedError, QueueFullError, ViCropError
from vicrop_engine.image import ImageInput
from vicrop_engine.serving.settings import SchedulerSettings
from vicrop_engine.serving.ticket import Ticket
from vicrop_engine.vicrop import ViCropEngine

Heard = Callable[[str], None]


class Scheduler:
    """Requests to one engine, several at a time. `close` it, or use it in a `with`."""

    def __init__(self, engine: ViCropEngine, settings: SchedulerSettings | None = None) -> None:
        self.engine, self.settings = engine, settings or SchedulerSettings()
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Ticket, Callable[[], None]]] = deque()
        self._running = 0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="scheduler", daemon=True)
        self._thread.start()

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def running(self) -> int:
        """Requests under way."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests accepted and not begun."""
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        """Share of the answers' KV slots in use, 0 to 1."""
        return min(1.0, self._running / self.settings.answers)

    def submit(
        self,
        image: ImageInput,
        question: str,
        *,
        deadline: float | None = None,
        on_first_answer: Heard | None = None,
        on_answer: Heard | None = None,
        **keywords: Any,
    ) -> Ticket:
        """Accept a request; `keywords` are those of `ViCropEngine.ask`, `deadline` seconds from now.

        `on_first_answer` and `on_answer` hear the texts as they grow, on a thread of the scheduler.
        Whatever is wrong with the request itself ends the ticket's future. Raises QueueFullError when too
        many wait, and ClosedError.
        """
        ticket = Ticket(next(self._numbers), deadline or self.settings.deadline)

        def work() -> None:
            heard = None if on_first_answer is None else _marking(ticket, on_first_answer)
            answer = self.engine.ask(image, question, on_first_answer=heard, **keywords)
            ticket.mark_token()
            if on_answer is not None:
                on_answer(answer.answer)
            ticket.future.set_result(answer)

        with self._changed:
            if self._closed:
                raise ClosedError("the scheduler is closing and takes no more requests")
            if len(self._waiting) >= self.settings.waiting:
                raise QueueFullError(len(self._waiting), self.retry_after)
            self._waiting.append((ticket, work))
            self._changed.notify()
        return ticket

    @property
    def retry_after(self) -> float:
        """Seconds after which there is likely room again."""
        return 1.0

    def close(self, *, drain: bool = True) -> None:
        """Take no more requests; with `drain` finish those accepted, else cancel them."""
        with self._changed:
            self._closed = True
            if not drain:
                for ticket, _ in self._waiting:
                    ticket.cancel()
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                ticket, work = self._waiting.popleft()
                self._running = 1
            try:
                ticket.began = ticket.clock()
                ticket.check()
                work()
            except ViCropError as error:
                ticket.future.set_exception(error)
            finally:
                self._running = 0


def _marking(ticket: Ticket, heard: Heard) -> Heard:
    def hear(text: str) -> None:
        ticket.mark_token()
        heard(text)

    return hear
