"""Freed memory: given back after work, and left alone without."""

from __future__ import annotations

import asyncio
import itertools

from vicrop_engine.server.freed_memory import WORKED, find_trim, give_back_freed


async def watched(times: list[float]) -> int:
    """How often memory is given back while the process's time goes through `times`."""
    calls: list[int] = []
    done = asyncio.Event()
    left = itertools.chain(times)

    def clock() -> float:
        now = next(left, None)
        if now is None:
            done.set()
        return times[-1] if now is None else now

    def trim(_: int) -> int:
        calls.append(_)
        return 1

    task = asyncio.create_task(give_back_freed(trim, seconds=0.001, clock=clock))
    await asyncio.wait_for(done.wait(), 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return len(calls)


def test_it_is_given_back_when_there_was_work() -> None:
    assert asyncio.run(watched([1.0, 1.0, 1.0 + WORKED / 2, 1.0 + WORKED / 2])) == 1
    assert asyncio.run(watched([1.0, 1.0, 2.0, 2.0])) == 2


def test_the_c_library_takes_the_call() -> None:
    trim = find_trim()
    assert trim is None or trim(0) in (0, 1)
