"""What opening an engine leaves in memory, put in order: what is free given back, what stays on huge pages.

Weights that ONNX Runtime packs for its kernels are read from end to end at every token. On pages of 4 KiB a
good part of that time goes into looking up where the next page lies; on pages of 2 MiB it does not. Kernels
of Linux from 6.1 on gather pages into huge ones when asked to (MADV_COLLAPSE of madvise(2)), whatever
/sys/kernel/mm/transparent_hugepage/enabled says. Elsewhere nothing is done, and no word said: it costs speed
alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

HUGE = 2 << 20  # bytes of a huge page on x86-64 and, with pages of 4 KiB, on arm64
WORTH_IT = 32  # huge pages from which on a thread is started for them
_THREAD = "huge-pages"
_COLLAPSE = 25  # MADV_COLLAPSE, in the kernel's include/uapi/asm-generic/mman-common.h
_MAPS = Path("/proc/self/maps")


def find_trim() -> Callable[[int], int] | None:
    """glibc's malloc_trim, or None where the C library has none."""
    if sys.platform != "linux":
        return None
    trim: Callable[[int], int] | None = getattr(_libc(), "malloc_trim", None)
    return trim


def give_back() -> None:
    """Give the system what is free of the C library's memory."""
    trim = find_trim()
    if trim is not None:
        trim(0)


@contextlib.contextmanager
def settled(*, huge: bool) -> Iterator[None]:
    """Give back what is free after the body and, with `huge`, move what it left in use onto huge pages.

    The moving is done by a thread of its own, beside the first requests: about two seconds of one core for
    each GiB.
    """
    before = set(_resident()) if huge else set()
    yield
    give_back()
    left = [piece for piece in _resident() if piece not in before] if huge else []
    if len(left) >= WORTH_IT:
        threading.Thread(target=collapse, args=(left,), name=_THREAD, daemon=True).start()


def wait_until_settled() -> None:
    """Wait for what `settled` started, so that a measurement is of what it leaves."""
    for thread in threading.enumerate():
        if thread.name == _THREAD:
            thread.join()


def collapse(pieces: Iterable[int]) -> int:
    """Gather each piece of HUGE bytes at these addresses into one page; how many the kernel did."""
    madvise = _libc().madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return sum(madvise(piece, HUGE, _COLLAPSE) == 0 for piece in pieces)


def _resident() -> list[int]:
    """Addresses of all pieces of private memory that are HUGE bytes, no file's, and wholly in memory."""
    if sys.platform != "linux" or mmap.PAGESIZE != 4096:
        return []
    try:
        lines = _MAPS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    pieces = (piece for line in lines for piece in pieces_of(line))
    return [piece for piece in pieces if _is_resident(piece)]


def pieces_of(line: str) -> range:
    """Addresses of the aligned pieces of HUGE bytes in one mapping, a line of /proc/self/maps.

    No piece where it is not private memory to be read and written, or a file's, or a stack.
    """
    span, rights, _, _, inode, *name = line.split(maxsplit=5)
    if rights != "rw-p" or inode != "0" or (name and name[0].startswith("[stack")):
        return range(0)
    start, end = (int(number, 16) for number in span.split("-"))
    first, last = -(-start // HUGE) * HUGE, end // HUGE * HUGE
    return range(first, last, HUGE)


def _is_resident(piece: int) -> bool:
    pages = HUGE // mmap.PAGESIZE
    states = (ctypes.c_ubyte * pages)()
    done = _libc().mincore(ctypes.c_void_p(piece), ctypes.c_size_t(HUGE), states)
    return done == 0 and all(state & 1 for state in states)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
