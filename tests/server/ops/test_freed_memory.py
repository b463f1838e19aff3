"""Freed memory: given back after work, and left alone without."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys

from vicrop_engine.server.ops.malloc_trim import HEAPS, WORKED, find_trim, give_back_freed


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


def test_heaps_are_bounded_in_a_process_of_its_own() -> None:
    """Eight threads that allocate have two heaps between them, by the C library's own account."""
    program = """
import ctypes, threading, tempfile
from vicrop_engine.server.ops.malloc_trim import bound_heaps
bound_heaps()
together = threading.Barrier(8)
def allocate():
    kept = [bytes(2000) for _ in range(200)]
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
c = ctypes.CDLL(None)
if not hasattr(c, "malloc_info"):
    print(1)
else:
    with tempfile.TemporaryFile() as file:
        c.fdopen.restype = ctypes.c_void_p
        stream = ctypes.c_void_p(c.fdopen(c.dup(file.fileno()), b"w"))
        c.malloc_info(0, stream)
        c.fclose(stream)
        file.seek(0)
        print(file.read().count(b"<heap nr="))
"""
    kept = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=kept, check=True
    )
    assert 1 <= int(done.stdout) <= HEAPS


def test_the_c_library_takes_the_call() -> None:
    trim = find_trim()
    assert trim is None or trim(0) in (0, 1)
