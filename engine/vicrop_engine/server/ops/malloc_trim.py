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

from vicrop_engine.runtime.heap import find_trim

SECONDS = 2.0  # between two looks
WORKED = 0.005  # seconds of processor time after which it is worth it; an idle server stays below
HEAPS = 2
_ARENA_MAX = -8  # of mallopt, in malloc.h


def bound_heaps() -> None:
    """Have glibc keep HEAPS heaps at most, unless MALLOC_ARENA_MAX says otherwise; call it before threads."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_ARENA_MAX, HEAPS)


async def give_back_freed(
    trim: Callable[[int], int] | None = None,
    *,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.process_time,
) -> None:
    """Give back what is free every `seconds`, when the process has worked in between; until cancelled.

    `trim` is glibc's own unless given.
    """
    trim = trim or find_trim()
    worked = 0.0
    while trim is not None:
        await asyncio.sleep(seconds)
        if clock() - worked > WORKED:
            await asyncio.to_thread(trim, 0)
            worked = clock()
