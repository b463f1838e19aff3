"""Asking: what is reused (by the counters), what each keyword does, and that caches change no result."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.samples import layout
from vicrop_engine import Answer, ViCropEngine
from vicrop_engine.counters import Counters
from vicrop_engine.model.prompts import PromptBuilder

QUESTION = "What is written on the red sign?"
OTHER = "How many people are there in the picture?"
PREFIX = 1 + 16 * 16
LAYOUT = layout(16 * 16)
FEW = {"max_new_tokens": 4}


@pytest.fixture(scope="module")
def prompts(engine_directory: Path) -> PromptBuilder:
    manifest = ViCropEngine.load(engine_directory).manifest
    tokenizer = engine_directory / "tokenizer.json"
    return PromptBuilder(tokenizer, manifest.prompts, manifest.tokens)


def spent(engine: ViCropEngine, ask: Callable[[], Answer]) -> tuple[Answer, Counters]:
    """The answer, and what it added to the counters."""
    before = dataclasses.asdict(engine.counters)
    answer = ask()
    after = dataclasses.asdict(engine.counters)
    engine.check_integrity()
    return answer, Counters(**{name: after[name] - before[name] for name in after})


def same(one: Answer, other: Answer, rounding: float = 0.0) -> bool:
    """Equal in everything but the time it took and the tokens it reused; heatmaps up to `rounding`."""
    bare = [dataclasses.replace(answer, timings={}, tokens=None, heatmap=None) for answer in (one, other)]  # type: ignore[arg-type]
    if (one.heatmap is None) != (other.heatmap is None):
        return False
    if one.heatmap is None or other.heatmap is None:
        return bare[0] == bare[1]
    return bare[0] == bare[1] and np.allclose(one.heatmap, other.heatmap, rtol=rounding, atol=0)


def test_nothing_is_computed_twice(
    engine: ViCropEngine, picture: Image.Image, prompts: PromptBuilder
) -> None:
    question, general = len(prompts.one_image(QUESTION, LAYOUT).suffix), len(prompts.general(LAYOUT).suffix)
    answer, cost = spent(engine, lambda: engine.ask(picture, QUESTION, **FEW))
    assert (cost.vision_images, cost.vision_hits) == (2, 0)
    assert (cost.prefix_prefills, cost.prefix_hits) == (1, 0)
    assert (cost.general_prefills, cost.general_hits) == (1, 0)
    prompts = PREFIX + question + (PREFIX - 1 + question)
    assert cost.upper_tokens == prompts + cost.decode_steps
    assert cost.lower_tokens == cost.upper_tokens + general
    assert answer.tokens.prefill == prompts + general
    assert answer.tokens.reused == 2 * PREFIX
    assert answer.tokens.decoded == len(answer.token_ids) + len(answer.first_token_ids)
    assert cost.decode_steps == answer.tokens.decoded - 2


def test_a_second_question_reruns_neither_vision_nor_prefix(
    engine: ViCropEngine, picture: Image.Image, prompts: PromptBuilder
) -> None:
    engine.ask(picture, QUESTION, **FEW)
    answer, cost = spent(engine, lambda: engine.ask(picture, OTHER, **FEW))
    assert (cost.prefix_prefills, cost.prefix_hits) == (0, 1)
    assert (cost.general_prefills, cost.general_hits) == (0, 1)
    assert cost.vision_images == 1, "the new crop alone"
    question = len(prompts.one_image(OTHER, LAYOUT).suffix)
    assert answer.tokens.prefill == question + (PREFIX - 1 + question)
    assert cost.lower_tokens == cost.upper_tokens == answer.tokens.prefill + cost.decode_steps


def test_the_same_question_again_needs_no_vision_at_all(engine: ViCropEngine, picture: Image.Image) -> None:
    first = engine.ask(picture, QUESTION, **FEW)
    again, cost = spent(engine, lambda: engine.ask(picture.copy(), QUESTION, **FEW))
    assert (cost.vision_images, cost.vision_hits, cost.prefix_hits) == (0, 1, 1)
    assert same(first, again)


def test_without_a_cache_everything_is_the_same_but_the_cost(
    engine: ViCropEngine, engine_directory: Path, picture: Image.Image
) -> None:
    """But for the last bits of the general prompt's rows, whose sums skip the question in their pass."""
    bare = ViCropEngine.load(engine_directory, cache_bytes=0, threads=1)
    for question in (QUESTION, OTHER, QUESTION):
        wanted = engine.ask(picture, question, **FEW)
        answer, cost = spent(bare, lambda: bare.ask(picture, question, **FEW))  # noqa: B023
        assert same(answer, wanted, rounding=1e-5)
        assert (cost.vision_images, cost.prefix_prefills, cost.general_prefills) == (2, 1, 1)


def test_layers_above_the_lower_graph_take_the_general_prompt_through_both(
    engine: ViCropEngine, picture: Image.Image
) -> None:
    top = engine.manifest.decoder.num_layers - 1
    answer, cost = spent(engine, lambda: engine.ask(picture, QUESTION, layers=top, **FEW))
    assert answer.layers == (top,)
    assert cost.lower_tokens == cost.upper_tokens


def test_several_layers_are_averaged(engine: ViCropEngine, picture: Image.Image) -> None:
    alone = [engine.ask(picture, QUESTION, layers=layer, **FEW).heatmap for layer in range(4)]
    answer = engine.ask(picture, QUESTION, layers="all", **FEW)
    assert answer.layers == (0, 1, 2, 3)
    np.testing.assert_allclose(answer.heatmap, np.mean(alone, axis=0), rtol=1e-5)  # type: ignore[arg-type]
    assert same(engine.ask(picture, QUESTION, layers=(1,), **FEW), engine.ask(picture, QUESTION, **FEW))


def test_layers_of_both_graphs_in_a_heatmap_only_pass(engine: ViCropEngine, picture: Image.Image) -> None:
    wanted = engine.ask(picture, QUESTION, layers="1-3", **FEW)
    answer = engine.ask(picture, QUESTION, layers="1-3", first_answer=False, **FEW)
    np.testing.assert_array_equal(answer.heatmap, wanted.heatmap)  # type: ignore[arg-type]


def test_without_the_first_answer(engine: ViCropEngine, picture: Image.Image, prompts: PromptBuilder) -> None:
    wanted = engine.ask(picture, QUESTION, **FEW)
    answer, cost = spent(engine, lambda: engine.ask(picture, QUESTION, first_answer=False, **FEW))
    assert (answer.answer_without_crop, answer.first_token_ids) == (None, ())
    assert (answer.token_ids, answer.crop_box) == (wanted.token_ids, wanted.crop_box)
    question = len(prompts.one_image(QUESTION, LAYOUT).suffix)
    assert cost.lower_tokens - cost.upper_tokens == question, "looking stops at the heatmap layer"


def test_a_shorter_question_to_look_with(engine: ViCropEngine, picture: Image.Image) -> None:
    looked, full = engine.ask(picture, OTHER, **FEW), engine.ask(picture, QUESTION, **FEW)
    answer = engine.ask(picture, QUESTION, localize=OTHER, **FEW)
    np.testing.assert_allclose(answer.heatmap, looked.heatmap, rtol=1e-5)  # type: ignore[arg-type]
    assert answer.crop_box == looked.crop_box
    assert answer.first_token_ids == full.first_token_ids


def test_method_none(engine: ViCropEngine, picture: Image.Image) -> None:
    answer, cost = spent(engine, lambda: engine.ask(picture, QUESTION, method="none", **FEW))
    assert (cost.vision_images, cost.prefix_prefills, cost.general_prefills) == (1, 1, 0)
    assert answer.answer == answer.answer_without_crop
    assert answer.token_ids == engine.ask(picture, QUESTION, **FEW).first_token_ids
    assert (answer.crop_box, answer.heatmap, answer.layers, answer.method) == (None, None, (), "none")
    assert answer.tokens.decoded == len(answer.token_ids)
    assert (
        engine.ask(picture, QUESTION, method="none", first_answer=False, **FEW).answer_without_crop
        is not None
    )


def test_a_given_box(engine: ViCropEngine, picture: Image.Image) -> None:
    found = engine.ask(picture, QUESTION, **FEW)
    assert found.crop_box is not None
    answer, cost = spent(engine, lambda: engine.ask(picture, QUESTION, box=found.crop_box, **FEW))
    assert (answer.token_ids, answer.crop_box) == (found.token_ids, found.crop_box)
    assert (answer.method, answer.heatmap, cost.general_hits) == ("box", None, 0)
    other = engine.ask(picture, QUESTION, box=np.array([0, 0, 900, 500]), **FEW)  # type: ignore[arg-type]
    assert other.crop_box == (0, 0, 900, 500)


@pytest.mark.parametrize("size", [(40, 30), (224, 224), (2, 2), (224, 3)])
def test_a_picture_within_one_window_is_its_own_crop(engine: ViCropEngine, size: tuple[int, int]) -> None:
    image = Image.effect_noise(size, 90).convert("RGB")
    answer, cost = spent(engine, lambda: engine.ask(image, QUESTION, **FEW))
    assert answer.crop_box == (0, 0, *size)
    assert answer.heatmap is None
    assert (cost.vision_images, cost.vision_hits, cost.general_prefills) == (1, 1, 0)


def test_geometry_by_default_and_in_compat(engine: ViCropEngine, picture: Image.Image) -> None:
    """By default the wide picture is padded and its grid reaches beyond it; in compat it does not."""
    padded = engine.ask(picture, QUESTION, **FEW)
    compat = engine.ask(picture, QUESTION, compat="mllms-know", **FEW)
    assert compat.heatmap_box == (0, 0, 900, 500)
    assert padded.heatmap_box is not None
    assert padded.heatmap_box == pytest.approx((0, -200, 900, 700), abs=5)
    assert padded.heatmap is not None
    assert compat.heatmap is not None
    assert (padded.heatmap[[0, 1, 2, 13, 14, 15]] == 0).all()
    assert (compat.heatmap > 0).all()
    assert padded.first_token_ids != compat.first_token_ids


@pytest.mark.parametrize("size", [(900, 500), (300, 1400), (4000, 3000), (2500, 40), (225, 224)])
@pytest.mark.parametrize("compat", [None, "mllms-know"])
def test_boxes_are_whole_numbers_inside_the_picture(
    engine: ViCropEngine, size: tuple[int, int], compat: str | None
) -> None:
    image = Image.radial_gradient("L").resize(size).convert("RGB")
    answer = engine.ask(image, QUESTION, compat=compat, first_answer=False, max_new_tokens=1)
    assert answer.crop_box is not None
    x0, y0, x1, y1 = answer.crop_box
    assert all(type(edge) is int for edge in answer.crop_box)
    assert 0 <= x0 < x1 <= size[0]
    assert 0 <= y0 < y1 <= size[1]
    assert answer.heatmap is not None
    assert answer.heatmap.dtype == np.float32
    assert np.isfinite(answer.heatmap).all()


def test_every_kind_of_input_gives_the_same_answer(
    engine: ViCropEngine, picture: Image.Image, tmp_path: Path
) -> None:
    path = tmp_path / "picture.png"
    picture.save(path)
    wanted = engine.ask(picture, QUESTION, **FEW)
    for source in (path, str(path), path.read_bytes(), np.asarray(picture)):
        assert same(engine.ask(source, QUESTION, **FEW), wanted)


def test_a_turned_picture_is_asked_about_upright(engine: ViCropEngine, picture: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    buffer = io.BytesIO()
    picture.transpose(Image.Transpose.ROTATE_270).save(buffer, "PNG", exif=exif)
    turned = engine.ask(buffer.getvalue(), QUESTION, **FEW)
    assert turned.image_size == (900, 500)
    assert same(turned, engine.ask(picture, QUESTION, **FEW))


def test_answers_stop_at_the_end_sign_or_the_limit(engine: ViCropEngine, picture: Image.Image) -> None:
    long = engine.ask(picture, QUESTION, max_new_tokens=30)
    for limit in (1, 3):
        short = engine.ask(picture, QUESTION, max_new_tokens=limit)
        assert short.token_ids == long.token_ids[:limit]
        assert short.first_token_ids == long.first_token_ids[:limit]
    for ids in (long.token_ids, long.first_token_ids):
        assert 2 not in ids[:-1]
        assert ids[-1] == 2 or len(ids) == 30


def test_confidence_is_the_mean_probability(engine: ViCropEngine, picture: Image.Image) -> None:
    one, four = (engine.ask(picture, QUESTION, max_new_tokens=count) for count in (1, 4))
    assert 0 < one.confidence < 1
    assert 0 < four.confidence < 1
    assert one.confidence != four.confidence


def test_the_json_form_has_the_contract_s_keys(engine: ViCropEngine, picture: Image.Image) -> None:
    document = json.loads(json.dumps(engine.ask(picture, QUESTION, **FEW).to_json(), allow_nan=False))
    assert list(document) == [
        *(
            "answer",
            "answer_without_crop",
            "method",
            "high_res",
            "crop_box",
            "crop_skipped",
            "crop_worth",
            "image_size",
            "heatmap",
            "layers",
        ),
        *("confidence", "timings", "tokens", "engine"),
    ]
    assert document["image_size"] == [900, 500]
    assert document["engine"] == {
        "model": "llava-signs",
        "precision": "fp32",
        "provider": "CPUExecutionProvider",
    }
    assert set(document["tokens"]) == {"prefill", "reused", "decoded", "crop"}
    assert (document["heatmap"]["rows"], document["heatmap"]["cols"]) == (16, 16)
    assert np.array(document["heatmap"]["values"]).shape == (16, 16)
    none = engine.ask(picture, QUESTION, method="none", **FEW).to_json()
    assert (none["heatmap"], none["crop_box"], none["layers"]) == (None, None, [])


@pytest.mark.parametrize("keywords", [{}, {"method": "none"}, {"box": (0, 0, 9, 9)}, {"first_answer": False}])
def test_stages_add_up_to_the_total(
    engine: ViCropEngine, picture: Image.Image, keywords: dict[str, Any]
) -> None:
    timings = dict(engine.ask(picture, QUESTION, **FEW, **keywords).timings)
    total = timings.pop("total")
    assert sum(timings.values()) == pytest.approx(total, rel=1e-6)
    assert all(seconds >= 0 for seconds in timings.values())
    assert timings["decode"] > 0
    assert (timings["crop_vision"] > 0) == (keywords.get("method") != "none")


def test_asks_from_several_threads_give_the_same_answers(engine: ViCropEngine, picture: Image.Image) -> None:
    questions = [QUESTION, OTHER] * 3
    wanted = [engine.ask(picture, question, **FEW) for question in questions]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda question: engine.ask(picture, question, **FEW), questions))
    assert all(same(*pair) for pair in zip(answers, wanted, strict=True))
    engine.check_integrity()


def test_the_prefix_is_never_changed_by_what_follows_it(engine: ViCropEngine, picture: Image.Image) -> None:
    """Method none after many continuations still gives the first answer bit for bit."""
    before = engine.ask(picture, QUESTION, method="none", max_new_tokens=8)
    for question in (OTHER, QUESTION, "yes"):
        engine.ask(picture, question, layers="all", **FEW)
    after = engine.ask(picture, QUESTION, method="none", max_new_tokens=8)
    assert after.confidence == before.confidence
    assert same(before, after)
