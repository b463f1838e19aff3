"""Waiting for a turn, a result or a lock: nobody wakes before there is something to do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from vicrop_engine.counters import Tally
from vicrop_engine.errors import DeadlineError, RequestCancelledError
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.serving.worker_slots import Lasting, WorkerSlot, WorkerSlots


class Wanted:
    """The interest of one handle, which counts how often it is asked."""

    def __init__(self, deadline: float = 60.0) -> None:
        self.handle = RequestHandle(1, deadline, Tally())
        self.alarm = threading.Event()
        self.handle.on_cancel(self.alarm.set)
        self.checks = 0

    @property
    def seconds_left(self) -> float:
        return self.handle.seconds_left

    def check(self) -> None:
        self.checks += 1
        self.handle.check()


def waits(worker: WorkerSlot) -> Callable[[], None]:
    def wait() -> None:
        with worker:
            pass

    return wait


def test_a_turn_is_waited_for_without_looking_around() -> None:
    slots, wanted = WorkerSlots(1), Wanted()
    taken, mine = WorkerSlot(slots, (0.0, 0), Lasting()), WorkerSlot(slots, (1.0, 1), wanted)
    with ThreadPoolExecutor(1) as pool:
        with taken:
            done = pool.submit(waits(mine))
            assert not threading.Event().wait(0.4)
        done.result(10)
    assert wanted.checks == 1


@pytest.mark.parametrize("how", ["turn", "result", "lock"])
def test_who_gives_up_is_woken_at_once(how: str) -> None:
    slots, wanted = WorkerSlots(1 if how == "turn" else 2), Wanted()
    taken, mine = WorkerSlot(slots, (0.0, 0), Lasting()), WorkerSlot(slots, (1.0, 1), wanted)
    never: Future[int] = Future()
    lock = threading.Lock()

    def wait() -> None:
        with mine:
            if how == "result":
                mine.result(never)
            with mine.holding(lock):
                pass

    with ThreadPoolExecutor(1) as pool, taken:
        lock.acquire()
        done = pool.submit(wait)
        assert not threading.Event().wait(0.1)
        wanted.handle.cancel()
        if how == "lock":  # a pass holds it, and ends
            lock.release()
        with pytest.raises(RequestCancelledError):
            done.result(10)
    assert slots._free == (1 if how == "turn" else 2)


def test_a_deadline_ends_the_wait_by_itself() -> None:
    slots, wanted = WorkerSlots(1), Wanted(deadline=0.2)
    taken, mine = WorkerSlot(slots, (0.0, 0), Lasting()), WorkerSlot(slots, (1.0, 1), wanted)
    with taken, pytest.raises(DeadlineError):
        waits(mine)()
    assert wanted.checks <= 3


def test_a_result_is_had_with_the_turn() -> None:
    slots, wanted = WorkerSlots(1), Wanted()
    mine, future = WorkerSlot(slots, (1.0, 1), wanted), Future[int]()
    with ThreadPoolExecutor(1) as pool, mine:
        pool.submit(lambda: (threading.Event().wait(0.1), future.set_result(7)))
        assert mine.result(future) == 7
        assert mine.granted
