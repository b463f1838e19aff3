"""Who computes now: as many requests as there are workers, the most urgent first, each for a stage at a time.

Knows nothing of what is computed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Protocol, TypeVar

T = TypeVar("T")
MARGIN = 0.001  # seconds after an end that it is surely over
FOREVER = threading.TIMEOUT_MAX


class Lock(Protocol):
    """A lock that can be waited for."""

    def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool:
        """Take it; False where that was not possible in time."""

    def release(self) -> None:
        """Give it back."""


class WorkerSlots:
    """Up to `count` slots at a time. One of them is never a heavy request's, if there are several."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._free = count
        self._free_heavy = max(1, count - 1)
        self._line: list[WorkerSlot] = []

    def queue(self, worker: WorkerSlot) -> None:
        """Put a request in line; its slot may be had at once."""
        with self._lock:
            worker.granted = False
            self._line.append(worker)
            self._grant()

    def give_back(self, worker: WorkerSlot) -> None:
        """Free a slot, or leave the line for one."""
        with self._lock:
            if worker in self._line:
                self._line.remove(worker)
            elif worker.granted:
                worker.granted = False
                self._free += 1
                self._free_heavy += worker.heavy
            self._grant()

    def is_wanted(self, worker: WorkerSlot) -> bool:
        """Whether somebody more urgent waits for this slot."""
        with self._lock:
            room = self._free_heavy + worker.heavy > 0
            return any(other.urgency < worker.urgency and (room or not other.heavy) for other in self._line)

    def _grant(self) -> None:
        for worker in sorted(self._line, key=lambda worker: worker.urgency):
            if not self._free:
                return
            if worker.heavy and not self._free_heavy:
                continue
            self._line.remove(worker)
            self._free -= 1
            self._free_heavy -= worker.heavy
            worker.granted = True
            worker.alarm.set()


class Interest(Protocol):
    """Who wants what a worker slot is waited for."""

    @property
    def alarm(self) -> threading.Event:
        """Set whenever it may have ended, or ends earlier than it did."""

    @property
    def seconds_left(self) -> float | None:
        """Seconds until it ends by itself; None for never."""

    def check(self) -> None:
        """Raises where going on makes no sense."""


class Lasting:
    """An interest that never ends."""

    seconds_left = None

    def __init__(self) -> None:
        self.alarm = threading.Event()

    def check(self) -> None:
        """Nothing."""


class WorkerSlot:
    """One request's place among those that compute, taken and given back as it goes.

    The lowest `place` goes first.

    While it `is_early` it goes before all that are not: what it does is short and lets others work together.
    The interest is checked at every boundary of a stage, and while waiting when it rings or ends; nobody
    wakes to look around.
    """

    def __init__(
        self,
        worker_slots: WorkerSlots,
        place: tuple[float, int],
        interest: Interest,
        *,
        heavy: bool = False,
    ) -> None:
        self._worker_slots, self._interest = worker_slots, interest
        self._place, self.heavy = place, heavy
        self.is_early = False
        self.granted = False
        self.alarm = interest.alarm

    @property
    def urgency(self) -> tuple[bool, float, int]:
        """Whose is lowest goes first."""
        return not self.is_early, *self._place

    def __enter__(self) -> WorkerSlot:
        self._worker_slots.queue(self)
        try:
            self._wait(lambda: self.granted)
        except BaseException:
            self._worker_slots.give_back(self)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._worker_slots.give_back(self)

    def boundary(self) -> None:
        """Between two stages: let somebody more urgent go first. Raises what the interest's check raises."""
        self._interest.check()
        if self._worker_slots.is_wanted(self):
            with self.paused():
                pass

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Without the slot inside, for waiting; it is taken again afterwards, but not after an error."""
        self._worker_slots.give_back(self)
        yield
        self.__enter__()

    def result(self, future: Future[T]) -> T:
        """What the future comes to; the slot is another's meanwhile."""
        if future.done():
            return future.result()
        future.add_done_callback(lambda _: self.alarm.set())
        with self.paused():
            self._wait(future.done)
            return future.result()

    @contextlib.contextmanager
    def holding(self, lock: Lock) -> Iterator[None]:
        """With the lock inside; while it is another's so is the slot."""
        acquired = lock.acquire(blocking=False)
        try:
            if not acquired:
                with self.paused():
                    while not (acquired := lock.acquire(timeout=self._patience or FOREVER)):
                        self._interest.check()
            self._interest.check()
            yield
        finally:
            if acquired:
                lock.release()

    def _wait(self, is_done: Callable[[], bool]) -> None:
        """Until it is done, checking the interest whenever that may have ended."""
        while not is_done():
            self._interest.check()
            self.alarm.wait(self._patience)
            self.alarm.clear()

    @property
    def _patience(self) -> float | None:
        left = self._interest.seconds_left
        return None if left is None else min(max(left, 0.0) + MARGIN, FOREVER)
