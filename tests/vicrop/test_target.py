"""Method target: what runs for it (by the counters), in tiles and among other requests, and who names it."""

from __future__ import annotations

import bisect
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.engines import QWENS, built_qwen
from tests.samples import layout
from tests.vicrop.test_ask import FEW, PREFIX, QUESTION, spent
from tests.vicrop.test_tiles import detailed
from vicrop_engine import ViCropEngine
from vicrop_engine.errors import QuestionError
from vicrop_engine.vicrop.params import AskParams
from vicrop_engine.vicrop.planning import plan_request
from vicrop_engine.vicrop.targets import TARGET_TOKENS

UNNAMED = "What does it say?"
LOOK: dict[str, Any] = {"method": "target", **FEW}


def suffix_of(engine: ViCropEngine, text: str) -> int:
    return len(engine.model.prompts.up_to(text, layout(16 * 16)).suffix)


def test_one_short_prompt_and_no_general_one(engine: ViCropEngine, picture: Image.Image) -> None:
    answer, cost = spent(engine, lambda: engine.ask(picture, QUESTION, **LOOK))
    question = len(engine.model.prompts.one_image(QUESTION, layout(16 * 16)).suffix)
    sought = suffix_of(engine, "Where is the red sign")
    assert 0 < sought < question
    assert (cost.general_prefills, cost.general_hits, cost.prefix_prefills) == (0, 0, 1)
    assert cost.lower_tokens - cost.upper_tokens == sought, "nothing else stops at the heatmap layer"
    assert answer.tokens.prefill == PREFIX + question + sought + PREFIX - 1 + question
    assert (answer.target, answer.target_from, answer.method) == ("red sign", "noun phrase", "target")
    document = json.loads(json.dumps(answer.to_json()))
    assert (document["target"], document["target_from"]) == ("red sign", "noun phrase")


def test_other_methods_say_nothing_of_a_target(engine: ViCropEngine, picture: Image.Image) -> None:
    assert "target" not in engine.ask(picture, QUESTION, **FEW).to_json()


def test_a_target_changes_the_map_and_not_the_first_answer(
    engine: ViCropEngine, picture: Image.Image
) -> None:
    plain = engine.ask(picture, QUESTION, **FEW)
    one, other = (engine.ask(picture, QUESTION, target=each, **LOOK) for each in ("blue door", "the car"))
    assert one.heatmap is not None
    assert other.heatmap is not None
    assert not np.allclose(one.heatmap, other.heatmap, rtol=1e-3)
    assert one.first_token_ids == other.first_token_ids == plain.first_token_ids
    assert (other.target, other.target_from) == ("car", "given")


def test_a_shorter_question_names_the_target(engine: ViCropEngine, picture: Image.Image) -> None:
    answer = engine.ask(picture, UNNAMED, localize="the blue door", **LOOK)
    assert (answer.target, answer.target_from) == ("blue door", "noun phrase")


def test_the_model_is_asked_once_and_unheard(engine: ViCropEngine, picture: Image.Image) -> None:
    plain, usual = spent(engine, lambda: engine.ask(picture, UNNAMED, method="none", **FEW))
    heard: list[str] = []
    engine.forget()
    answer, cost = spent(engine, lambda: engine.ask(picture, UNNAMED, on_first_answer=heard.append, **LOOK))
    assert answer.target_from in ("model", "question")
    assert answer.target
    assert answer.first_token_ids == plain.token_ids, "the question asked before leaves nothing behind"
    assert heard[-1] == answer.answer_without_crop
    assert cost.general_prefills == 0
    said = cost.decode_steps - usual.decode_steps - len(answer.token_ids) + 1
    assert 0 < said < TARGET_TOKENS + 1
    assert answer.tokens.prefill == cost.lower_tokens - cost.decode_steps
    assert answer.tokens.reused == 3 * PREFIX


def test_a_picture_that_is_its_own_crop_needs_no_target(engine: ViCropEngine) -> None:
    small = Image.new("RGB", (50, 40), "grey")
    answer = engine.ask(small, UNNAMED, **LOOK)
    assert (answer.crop_box, answer.target, answer.heatmap) == ((0, 0, 50, 40), None, None)
    assert answer.tokens.reused == PREFIX


def test_each_tile_is_looked_at_with_the_target(engine: ViCropEngine) -> None:
    image = detailed(1500, 1100)
    settings = {**LOOK, "high_res": "on", "first_answer": False}
    answer, cost = spent(engine, lambda: engine.ask(image, QUESTION, **settings))
    assert len(answer.tiles) == 4
    sought = suffix_of(engine, "Where is the red sign")
    assert cost.lower_tokens - cost.upper_tokens == 4 * (PREFIX + sought)
    named, other = (
        engine.locate(image, UNNAMED, target=each, method="target", high_res="on")
        for each in ("red sign", "car")
    )
    assert answer.heatmap is not None
    assert named.heatmap is not None
    assert other.heatmap is not None
    np.testing.assert_allclose(answer.heatmap, named.heatmap, rtol=1e-5)
    assert not np.allclose(other.heatmap, named.heatmap, rtol=1e-2)
    assert named.heatmap.max() < 1, "attention itself, of no tile over its mean"


@pytest.mark.parametrize("question", [QUESTION, UNNAMED])
def test_among_other_requests_it_is_the_same(engine: ViCropEngine, question: str) -> None:
    pictures = [detailed(700, 500), detailed(500, 700)]
    alone = [engine.ask(picture, question, **LOOK) for picture in pictures]
    engine.forget()
    together = engine.ask_batch([(picture, question) for picture in pictures], **LOOK)
    assert together == alone
    assert {answer.target for answer in together} == {answer.target for answer in alone}


def test_a_question_too_long_to_ask_the_model_about_is_refused() -> None:
    """It fits the context with its crop; the prompt that asks what it is about does not, with a reply."""
    model = ViCropEngine.load(built_qwen(QWENS["qwen2.5, grouped heads"]).engine, threads=1).model

    def fits(words: int, **settings: Any) -> str | None:
        try:
            plan_request(model, "it " * words, AskParams(max_new_tokens=1, **settings))
        except QuestionError as error:
            return str(error)
        return None

    longest = bisect.bisect_left(range(1, 4096), True, key=lambda words: fits(words) is not None)
    assert longest > 100
    assert fits(longest) is None
    said = fits(longest, method="target")
    assert said is not None
    assert f"with {TARGET_TOKENS} for the answer" in said
    assert said.endswith("ask a shorter one")
    assert fits(longest, method="target", target="sign") is None, "nobody has to be asked"
