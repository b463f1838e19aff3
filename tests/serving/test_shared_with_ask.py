"""An engine that is asked and served keeps a picture and its prefix once."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.serving.conftest import Start
from vicrop_engine import ViCropEngine
from vicrop_engine.counters import Counters
from vicrop_engine.examples import signs

FIRST, SECOND = "What is written on the red sign?", "What is written on the blue sign?"
PATH, _ = signs()[3]


def spent(engine: ViCropEngine, before: Counters) -> dict[str, int]:
    after = vars(engine.counters)
    return {name: after[name] - count for name, count in vars(before).items() if after[name] != count}


def test_ask_batch_begins_with_what_ask_has_kept(engine: ViCropEngine) -> None:
    engine.forget()
    engine.ask(PATH, FIRST)
    before = engine.counters
    (after,) = engine.ask_batch([(PATH, SECOND)])
    cost = spent(engine, before)
    assert (cost["prefix_hits"], cost["general_hits"]) == (1, 1)
    engine.forget()
    (alone,) = engine.ask_batch([(PATH, SECOND)])
    assert (after.token_ids, after.first_token_ids, after.crop_box) == (
        alone.token_ids,
        alone.first_token_ids,
        alone.crop_box,
    )
    np.testing.assert_allclose(after.heatmap, alone.heatmap, rtol=0, atol=1e-4 * alone.heatmap.max())
    assert "prefix_prefills" not in cost
    assert cost["vision_images"] == 1  # of its crop


def test_ask_goes_on_from_what_was_served(start: Start, engine: ViCropEngine) -> None:
    scheduler = start()
    scheduler.submit(PATH, FIRST).future.result(timeout=20)
    before = engine.counters
    engine.ask(PATH, SECOND)
    cost = spent(engine, before)
    assert cost["prefix_hits"] == 1
    assert "prefix_prefills" not in cost


@pytest.mark.parametrize("kind", ["path", "bytes", "pillow", "array"])
def test_a_picture_is_decoded_once_in_whatever_form(
    kind: str, engine: ViCropEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Image.open(PATH).convert("RGB")
    given = {"path": PATH, "bytes": PATH.read_bytes(), "pillow": opened, "array": np.asarray(opened)}[kind]
    engine.forget()
    made: list[object] = []
    family = type(engine.model.family)
    see = family.see

    def spied(*arguments: Any) -> Any:
        made.append(None)
        return see(*arguments)

    monkeypatch.setattr(family, "see", spied)
    answer = engine.ask(given, FIRST, method="none")
    (batched,) = engine.ask_batch([(given, FIRST)], method="none")
    assert len(made) == 1
    assert batched.token_ids == answer.token_ids


def test_asks_and_requests_at_the_same_time_share_one_prefix(start: Start, engine: ViCropEngine) -> None:
    """The rows of a prefix are written by one of them at a time."""
    wanted = {question: engine.ask(PATH, question) for question in (FIRST, SECOND)}
    scheduler = start()
    before = engine.counters
    found: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []

    def ask_again() -> None:
        for question in (FIRST, SECOND) * 3:
            answer = engine.ask(PATH, question)
            found.append((question, answer.token_ids, answer.first_token_ids))

    asking = threading.Thread(target=ask_again)
    asking.start()
    for question in (SECOND, FIRST) * 6:
        answer = scheduler.submit(PATH, question).future.result(timeout=60)
        found.append((question, answer.token_ids, answer.first_token_ids))
    asking.join()
    assert len(found) == 18
    for question, final, first in found:
        assert (final, first) == (wanted[question].token_ids, wanted[question].first_token_ids)
    assert spent(engine, before)["prefix_prefills"] == 1
