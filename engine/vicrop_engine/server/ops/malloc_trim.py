"""Memory that is free, given back to the system while the server has a moment.

glibc keeps what was freed in a heap for each thread. Requests free blocks of many sizes on many threads, so
that without this a server's resident memory creeps up to a multiple of what it holds, and stays there. What
is left then are pages of which a part is in use, fewer of them in fewer heaps.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable

from vicrop_engine.process_limits import usable_bytes
from vicrop_engine.runtime.heap import find_trim

SECONDS, SECONDS_WHERE_TIGHT = 2.0, 0.2  # between two looks
TIGHT = 1 << 30  # bytes that a process may use
WORKED = 0.005  # seconds of processor time after which it is worth it; an idle server stays below
HEAPS = 2
LARGE = 4 << 20  # bytes of a block that goes back to the system as soon as it is freed
_ARENA_MAX, _MMAP_THRESHOLD = -8, -3  # of mallopt, in malloc.h


def bound_heaps() -> None:
    """Have glibc keep HEAPS heaps at most, and no freed block of LARGE bytes; call it before threads.

    Where MALLOC_ARENA_MAX or MALLOC_MMAP_THRESHOLD_ is set that holds instead. Left alone glibc would keep
    blocks of up to 32 MiB, such as pictures are made of, once one of that size was freed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_ARENA_MAX, HEAPS)
    if mallopt is not None and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        mallopt(_MMAP_THRESHOLD, LARGE)


async def give_back_freed(
    trim: Callable[[int], int] | None = None,
    *,
    seconds: float | None = None,
    clock: Callable[[], float] = time.process_time,
) -> None:
    """Give back what is free every `seconds`, when the process has worked in between; until cancelled.

    `trim` is glibc's own unless given, and `seconds` fewer where this process may use little memory.
    """
    if seconds is None:
        seconds = SECONDS_WHERE_TIGHT if usable_bytes() < TIGHT else SECONDS
    trim = trim or find_trim()
    worked = 0.0
    while trim is not None:
        await asyncio.sleep(seconds)
        if clock() - worked > WORKED:
            await asyncio.to_thread(trim, 0)
            worked = clock()
