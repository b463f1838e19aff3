"""Whatever else is under way, a request's answers, box and heatmap are those it gets alone, byte for byte."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.serving.conftest import Small, Start
from tests.serving.mixed import Request, mixed_requests, numbers
from vicrop_engine import ViCropEngine
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.vicrop.answer import Answer
from vicrop_engine.vicrop.params import AskParams
from vicrop_engine.vicrop.text_alone import TEXT_ALONE

CLIENTS = 32


def asked(scheduler: Scheduler, request: Request) -> Answer:
    image, question, keywords = request
    return scheduler.submit(image, question, **keywords).future.result(timeout=120)


def test_answers_under_load_are_those_of_requests_one_by_one(start: Start) -> None:
    """500 requests of every kind, by 32 clients at once, against the same with nothing kept and alone."""
    check_under_load(start(workers=1), start(workers=3, running=16), mixed_requests(500, seed=3))


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_so_they_are_in_every_precision_and_in_chunks(start: Start, small: Small, precision: str) -> None:
    """An engine with layers above the heatmap's, whose prompts go in several chunks."""
    alone, loaded = (start(small(precision), workers=count, prefill_chunk=48) for count in (1, 3))
    measured = [request for request in mixed_requests(60, seed=5) if "when" not in request[2]]
    measured = [request for request in measured if request[2].get("max_new_tokens", 0) < 99]  # it never ends
    check_under_load(alone, loaded, measured)


def check_under_load(alone: Scheduler, loaded: Scheduler, requests: list[Request]) -> None:
    expected = []
    for request in requests:
        alone.forget()
        expected.append(numbers(asked(alone, request)))
    at_once = threading.Barrier(CLIENTS)

    def client(number: int) -> list[tuple[object, ...]]:
        at_once.wait()
        return [numbers(asked(loaded, request)) for request in requests[number::CLIENTS]]

    with ThreadPoolExecutor(CLIENTS) as pool:
        for number, got in enumerate(pool.map(client, range(CLIENTS))):
            assert got == expected[number::CLIENTS]
    assert loaded.engine.model.tally.snapshot().shared_steps > 0


def test_answers_are_those_of_the_engine_itself(start: Start, engine: ViCropEngine) -> None:
    """Its passes are put together in another way, so heatmaps agree to rounding, all else exactly."""
    scheduler = start()
    for image, question, keywords in mixed_requests(60, seed=9):
        source = TEXT_ALONE if image is None else image
        expected = engine.answer(source, question, AskParams.of(keywords))
        got = scheduler.submit(image, question, **keywords).future.result(timeout=120)
        assert (got.answer, got.answer_without_crop) == (expected.answer, expected.answer_without_crop)
        assert (got.token_ids, got.crop_box, got.tiles) == (
            expected.token_ids,
            expected.crop_box,
            expected.tiles,
        )
        assert got.confidence == pytest.approx(expected.confidence, rel=1e-4)
        if expected.heatmap is not None:
            assert got.heatmap is not None
            error = np.linalg.norm(got.heatmap - expected.heatmap) / np.linalg.norm(expected.heatmap)
            assert error <= 1e-4
