"""What opening leaves in memory: which pieces go onto huge pages, and that nothing in them changes."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import subprocess
import sys
import threading

import numpy as np
import pytest

from vicrop_engine import ViCropEngine
from vicrop_engine.runtime import heap
from vicrop_engine.runtime.heap import HUGE, WORTH_IT, collapse, pieces_of, settled, wait_until_settled

LINUX = pytest.mark.skipif(
    sys.platform != "linux" or mmap.PAGESIZE != 4096,
    reason="huge pages are asked for on Linux with 4 KiB pages",
)


def filled(pieces: int) -> tuple[mmap.mmap, int]:
    """Private memory that holds this many whole pieces, written to, and the first one's address."""
    block = mmap.mmap(-1, (pieces + 1) * HUGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    np.frombuffer(block, np.uint8)[:] = np.arange(len(block), dtype=np.uint8)
    start = ctypes.addressof(ctypes.c_char.from_buffer(block))
    return block, -(-start // HUGE) * HUGE


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("7f0000000000-7f0000400000 rw-p 00000000 00:00 0 ", 2),
        ("7f0000000000-7f0000400000 rw-p 00000000 00:00 0 [anon:glibc: mmap]", 2),
        ("7f0000000000-7f0000400000 rw-p 00000000 00:00 0 [heap]", 2),
        ("7f0000001000-7f0000400000 rw-p 00000000 00:00 0 ", 1),
        ("7f0000001000-7f00003ff000 rw-p 00000000 00:00 0 ", 0),
        ("7f0000000000-7f0000400000 rw-s 00000000 00:00 0 ", 0),
        ("7f0000000000-7f0000400000 r--p 00000000 00:00 0 ", 0),
        ("7f0000000000-7f0000400000 ---p 00000000 00:00 0 ", 0),
        ("7f0000000000-7f0000400000 rw-p 00000000 fe:00 1177 /a file/with spaces.onnx.data", 0),
        ("7f0000000000-7f0000400000 rw-p 00000000 00:00 0 [stack]", 0),
    ],
)
def test_only_whole_pieces_of_private_memory_are_taken(line: str, count: int) -> None:
    pieces = pieces_of(line)
    assert len(pieces) == count
    assert all(piece % HUGE == 0 for piece in pieces)


@LINUX
def test_memory_that_came_into_use_in_the_body_is_moved_and_holds_what_it_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved: list[int] = []
    monkeypatch.setattr(heap, "collapse", lambda pieces: moved.extend(pieces) or collapse(pieces))
    _old, before = filled(WORTH_IT)
    with settled(huge=True):
        block, first = filled(WORTH_IT)
    wait_until_settled()
    mine = set(range(first, first + (WORTH_IT - 1) * HUGE, HUGE))
    assert mine <= set(moved)
    assert before not in moved
    values = np.frombuffer(block, np.uint8)
    assert np.array_equal(values, np.arange(len(block), dtype=np.uint8))


@LINUX
def test_memory_that_is_not_wholly_there_is_left_alone() -> None:
    block = mmap.mmap(-1, 3 * HUGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(block))
    first = -(-start // HUGE) * HUGE
    np.frombuffer(block, np.uint8)[first - start : first - start + HUGE - mmap.PAGESIZE] = 1
    assert first not in heap._resident()
    np.frombuffer(block, np.uint8)[first - start : first - start + HUGE] = 1
    assert first in heap._resident()


@LINUX
def test_an_address_that_is_no_longer_there_is_no_harm() -> None:
    assert collapse([0, HUGE]) == 0


def test_few_pieces_start_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[object] = []
    monkeypatch.setattr(heap, "collapse", moved.append)
    with settled(huge=True):
        pass
    wait_until_settled()
    assert moved == []


def test_none_is_asked_for_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[None] = []
    monkeypatch.setattr(heap, "_resident", lambda: looked.append(None) or [])
    with settled(huge=False):
        pass
    assert looked == []


def test_an_error_in_the_body_comes_through() -> None:
    with contextlib.suppress(KeyError), settled(huge=True):
        raise KeyError
    assert not [thread for thread in threading.enumerate() if thread.name == "huge-pages"]


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_nothing_is_asked_of_the_system(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(heap, "_libc", lambda: pytest.fail("asked"))
    with settled(huge=True):
        pass


def test_answers_are_the_same_with_and_without(signs: tuple[str, str]) -> None:
    image, question = signs
    with_, without = (
        ViCropEngine.load("llava-signs", threads=1, huge_pages=huge).ask(image, question)
        for huge in (True, False)
    )
    assert with_ == without
    assert with_.heatmap is not None
    assert without.heatmap is not None
    assert with_.heatmap.tobytes() == without.heatmap.tobytes()


@pytest.fixture
def signs() -> tuple[str, str]:
    """The demo picture and a question about it."""
    from vicrop_engine.engine_dir.registry import EMBEDDED

    return str(EMBEDDED / "llava_signs" / "demo.png"), "What is written on the yellow circle sign?"


def test_a_process_ends_while_pages_are_moved() -> None:
    program = (
        "import mmap, numpy as np\n"
        "from vicrop_engine.runtime.heap import settled, HUGE\n"
        "with settled(huge=True):\n"
        "    block = mmap.mmap(-1, 100 * HUGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
        "    np.frombuffer(block, np.uint8)[:] = 1\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
