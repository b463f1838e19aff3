"""Pictures of different sizes side by side: each request's numbers are those it gets alone."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.engines import QWENS, built_qwen
from tests.serving.conftest import Start
from tests.serving.mixed import CROP_BOX, Request, numbers
from tests.serving.test_same_bytes import asked
from vicrop_engine import ViCropEngine

CLIENTS, REQUESTS = 16, 150  # requests of each family
SIZES = (640, 480), (330, 410), (900, 240)
QUESTIONS = (
    "What is written on the red sign?",
    "How many people are there?",
    "Is it?",
    "What colour is the door?",
)
KINDS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"method": "grad-att"},
    {"method": "none"},
    {"first_answer": False},
    {"localize": "Where is the sign?"},
    {"crop_min_pixels": 20 * 28**2},
    {"max_pixels": 12 * 28**2},
)


def requests(kinds: Sequence[dict[str, Any]] = KINDS) -> list[tuple[int, Request]]:
    """Each with the number of its kind: three pictures asked about often, in all kinds of ways."""
    random = np.random.default_rng(7)
    pictures = [encoded(size) for size in SIZES]
    found = []
    for _ in range(REQUESTS):
        kind = int(random.integers(len(pictures) * len(QUESTIONS) * len(kinds)))
        picture, rest = divmod(kind, len(QUESTIONS) * len(kinds))
        question, way = divmod(rest, len(kinds))
        keywords = {"max_new_tokens": 5, **kinds[way]}
        found.append((kind, (pictures[picture], QUESTIONS[question], keywords)))
    return found


def encoded(size: tuple[int, int]) -> bytes:
    """A seeded picture as a PNG."""
    coarse = np.random.default_rng(size[0]).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["qwen2.5, grouped heads", "qwen3, sharded"])
def test_answers_under_load_are_those_of_requests_one_by_one(start: Start, name: str) -> None:
    check_under_load(start, ViCropEngine.load(built_qwen(QWENS[name]).engine, threads=1), requests())


def check_under_load(start: Start, engine: ViCropEngine, drawn: Sequence[tuple[int, Request]]) -> None:
    """Each kind of request alone, with nothing kept, against all of them by 16 clients at once."""
    alone, expected = start(engine, workers=1, prefill_chunk=32), {}
    for kind, request in drawn:
        if kind not in expected:
            alone.forget()
            expected[kind] = numbers(asked(alone, request))
    loaded, at_once = start(engine, workers=3, running=8, prefill_chunk=32), threading.Barrier(CLIENTS)

    def client(number: int) -> list[tuple[int, tuple[object, ...]]]:
        at_once.wait()
        return [(kind, numbers(asked(loaded, request))) for kind, request in drawn[number::CLIENTS]]

    with ThreadPoolExecutor(CLIENTS) as pool:
        for answers in pool.map(client, range(CLIENTS)):
            for kind, got in answers:
                assert got == expected[kind]
    assert len({answer[CROP_BOX] for answer in expected.values()}) > len(SIZES), "crops of several places"
    assert engine.model.tally.snapshot().shared_steps > 0
