"""Who computes now: as many requests as there are workers, the most urgent first, each for a stage at a time.

Knows nothing of what is computed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Protocol, TypeVar

T = TypeVar("T")


class Lock(Protocol):
    """A lock that can be waited for."""

    def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool:
        """Take it; False where that was not possible in time."""

    def release(self) -> None:
        """Give it back."""


LOOK_UP = 0.05  # seconds after which whoever waits looks whether going on still makes sense


class WorkerSlots:
    """Up to `count` turns at a time. One of them is never a heavy request's, if there are several."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._free = count
        self._free_heavy = max(1, count - 1)
        self._line: list[WorkerSlot] = []

    def queue(self, worker: WorkerSlot) -> None:
        """Put a turn in line; it may be had at once."""
        with self._lock:
            worker.granted.clear()
            self._line.append(worker)
            self._grant()

    def give_back(self, worker: WorkerSlot) -> None:
        """End a turn, or take it out of the line."""
        with self._lock:
            if worker in self._line:
                self._line.remove(worker)
            elif worker.granted.is_set():
                worker.granted.clear()
                self._free += 1
                self._free_heavy += worker.heavy
            self._grant()

    def is_wanted(self, worker: WorkerSlot) -> bool:
        """Whether somebody more urgent waits for this turn."""
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
            worker.granted.set()


class WorkerSlot:
    """One request's turn, taken and given back as it goes. The lowest `place` goes first.

    While it `is_early` it goes before all that are not: what it does is short and lets others work together.
    `check` raises when going on makes no sense; it is called at every boundary of a stage.
    """

    def __init__(
        self,
        worker_slots: WorkerSlots,
        place: tuple[float, int],
        check: Callable[[], None],
        *,
        heavy: bool = False,
    ) -> None:
        self._worker_slots, self._check = worker_slots, check
        self._place, self.heavy = place, heavy
        self.is_early = False
        self.granted = threading.Event()

    @property
    def urgency(self) -> tuple[bool, float, int]:
        """Whose is lowest goes first."""
        return not self.is_early, *self._place

    def __enter__(self) -> WorkerSlot:
        self._worker_slots.queue(self)
        try:
            while not self.granted.wait(LOOK_UP):
                self._check()
        except BaseException:
            self._worker_slots.give_back(self)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._worker_slots.give_back(self)

    def boundary(self) -> None:
        """Between two stages: let somebody more urgent go first. Raises what `check` raises."""
        self._check()
        if self._worker_slots.is_wanted(self):
            with self.paused():
                pass

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Without the turn inside, for waiting; it is taken again afterwards, but not after an error."""
        self._worker_slots.give_back(self)
        yield
        self.__enter__()

    def result(self, future: Future[T]) -> T:
        """What the future comes to; the turn is another's meanwhile."""
        if future.done():
            return future.result()
        with self.paused():
            while True:
                with contextlib.suppress(FutureTimeoutError):
                    return future.result(LOOK_UP)
                self._check()

    @contextlib.contextmanager
    def holding(self, lock: Lock) -> Iterator[None]:
        """With the lock inside; while it is another's so is the turn."""
        acquired = lock.acquire(blocking=False)
        try:
            if not acquired:
                with self.paused():
                    while not (acquired := lock.acquire(timeout=LOOK_UP)):
                        self._check()
            yield
        finally:
            if acquired:
                lock.release()
