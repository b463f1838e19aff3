"""Both answers side by side: the same tokens as one after the other, and weights read once for both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests.engines import STRETCH_168, built
from vicrop_engine import ViCropEngine
from vicrop_engine.model.decoder import HostDecoder
from vicrop_engine.model.packing import Branch, PackedStep
from vicrop_engine.vicrop.answer import Answer
from vicrop_engine.vicrop.localizers.localizer import Localization
from vicrop_engine.vicrop.request_state import RequestState

PICTURE = np.random.default_rng(3).integers(0, 256, (400, 520, 3), np.uint8)
QUESTION = "What is on the sign?"


@pytest.fixture
def engine() -> ViCropEngine:
    """With answers that go on to the end: random weights may give an end sign at any moment."""
    engine = ViCropEngine.load(built(STRETCH_168).engine, threads=1)
    decoder = engine._model.decoder
    decoder._tokens = replace(decoder._tokens, eos=())
    return engine


def apart(engine: ViCropEngine, monkeypatch: pytest.MonkeyPatch, **keywords: object) -> Answer:
    with monkeypatch.context() as patch:
        patch.setattr(HostDecoder, "answers_side_by_side", False)
        return engine.ask(PICTURE, QUESTION, **keywords)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["rel-att", "grad-att"])
@pytest.mark.parametrize("tokens", [1, 2, 3, 9])
def test_both_answers_are_those_of_one_after_the_other(
    method: str, tokens: int, engine: ViCropEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = apart(engine, monkeypatch, method=method, max_new_tokens=tokens)
    got = engine.ask(PICTURE, QUESTION, method=method, max_new_tokens=tokens)
    assert got.first_token_ids == wanted.first_token_ids
    assert got.token_ids == wanted.token_ids
    assert len(got.token_ids) == len(got.first_token_ids) == tokens
    assert got.confidence == pytest.approx(wanted.confidence, rel=1e-4)
    assert got.tokens.decoded == wanted.tokens.decoded


def test_weights_are_read_once_for_both(engine: ViCropEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer's tokens cost no pass of their own: the crop's takes one, the steps the others."""
    before = engine.counters
    apart(engine, monkeypatch, max_new_tokens=6)
    between = engine.counters
    engine.ask(PICTURE + 1, QUESTION, max_new_tokens=6)
    after = engine.counters
    one_by_one = between.lower_passes - before.lower_passes
    together = after.lower_passes - between.lower_passes
    assert one_by_one == 2 + 5 + 5
    assert together == 2 + 5
    assert after.upper_passes - between.upper_passes == together
    assert after.decode_steps - between.decode_steps == between.decode_steps - before.decode_steps == 10
    assert after.lower_tokens - between.lower_tokens == between.lower_tokens - before.lower_tokens


@pytest.mark.parametrize("ends", [1, 2, 4, 6])
def test_an_answer_that_ends_early_leaves_the_other_one_alone(
    ends: int, engine: ViCropEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token that comes at some place is made an end sign, which ends either answer wherever it is."""
    decoder = engine._model.decoder
    long = engine.ask(PICTURE, QUESTION, max_new_tokens=8)
    for ids in (long.first_token_ids, long.token_ids):
        decoder._tokens = replace(decoder._tokens, eos=(ids[ends],))
        wanted = apart(engine, monkeypatch, max_new_tokens=8)
        got = engine.ask(PICTURE, QUESTION, max_new_tokens=8)
        assert got.first_token_ids == wanted.first_token_ids
        assert got.token_ids == wanted.token_ids
        assert ids[ends] in (got.first_token_ids[-1], got.token_ids[-1])


def test_the_next_question_on_the_picture_is_answered_as_on_a_new_engine(engine: ViCropEngine) -> None:
    engine.ask(PICTURE, "What colour is the sign?", max_new_tokens=7)
    second = engine.ask(PICTURE, QUESTION, max_new_tokens=7)
    assert engine.counters.prefix_hits == 1
    engine._model.prefixes.capacity = 0
    engine._model.prefixes.put("nothing", next(iter(engine._model.prefixes.values())))
    fresh = ViCropEngine.load(built(STRETCH_168).engine, threads=1)
    fresh._model.decoder._tokens = engine._model.decoder._tokens
    wanted = fresh.ask(PICTURE, QUESTION, max_new_tokens=7)
    assert (second.first_token_ids, second.token_ids) == (wanted.first_token_ids, wanted.token_ids)
    assert second.crop_box == wanted.crop_box


def test_the_first_answer_is_heard_as_it_grows_and_begins_before_the_crop_is_prefilled(
    engine: ViCropEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    side_by_side = HostDecoder.side_by_side
    monkeypatch.setattr(
        HostDecoder, "side_by_side", lambda *given: events.append("crop") or side_by_side(*given)
    )
    answer = engine.ask(PICTURE, QUESTION, max_new_tokens=3, on_first_answer=events.append)
    assert events[1] == "crop"
    assert len(events) == 4
    assert events[-1] == answer.answer_without_crop
    alone: list[str] = []
    engine.ask(PICTURE, QUESTION, method="none", max_new_tokens=3, on_first_answer=alone.append)
    assert alone == [text for text in events if text != "crop"]


@dataclass(frozen=True)
class Reader:
    """A localizer that asks the model something on the way, over the first answer's rows."""

    name: str = "reader"

    def locate(self, state: RequestState) -> Localization:
        model = state.model
        text = "Where is the longest word of all that are written here?"
        suffix = model.prompts.one_image(text, state.seen.layout).suffix
        model.decoder.prefill(state.prefix, [suffix])
        return Localization(self.name, (10, 10, 300, 300))

    def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
        return ()


def test_a_localizer_with_passes_of_its_own_takes_nothing_from_the_first_answer(engine: ViCropEngine) -> None:
    wanted = engine.ask(PICTURE, QUESTION, method="none", max_new_tokens=5)
    got = engine.ask(PICTURE, QUESTION, method=Reader(), max_new_tokens=5)
    assert got.crop_box == (10, 10, 300, 300)
    assert got.first_token_ids == wanted.token_ids


def see(block: PackedStep) -> list[list[int]]:
    return [list(np.flatnonzero(row == 0)) for row in block.bias()[0, 0]]


def test_a_branch_sees_the_prefix_and_its_own_tokens() -> None:
    """A prefix of two; one answer in rows 2 and 3, whose fourth token goes along with three of the other."""
    block = PackedStep((Branch(((0, 4),)), Branch(((0, 2),))), (1, 3), done=4)
    assert see(block) == [[0, 1, 2, 3, 4], [0, 1, 5], [0, 1, 5, 6], [0, 1, 5, 6, 7]]
    assert block.position_ids.tolist() == [[4, 2, 3, 4]]
    assert block.ends.tolist() == [0, 3]
    assert (block.num_new, block.total) == (4, 8)
    assert block.grown == (Branch(((0, 5),)), Branch(((0, 2), (5, 8))))
    later = PackedStep(block.grown, (1, 1), done=8)
    assert see(later) == [[0, 1, 2, 3, 4, 8], [0, 1, 5, 6, 7, 9]]
    assert later.position_ids.tolist() == [[5, 5]]
    assert lengths(later.grown) == [6, 6]


def lengths(branches: Sequence[Branch]) -> list[int]:
    return [branch.length for branch in branches]
