"""Asking in tiles: what runs and what is reused (by the counters), and where a tile's cells come to lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vicrop_engine import Answer, ViCropEngine
from vicrop_engine.counters import Counters
from vicrop_engine.images.seen import Way
from vicrop_engine.model.answers.greedy import AnswerTokens
from vicrop_engine.vicrop.localizers.relative_attention import RelativeAttention
from vicrop_engine.vicrop.request_state import PassTargets, RequestState
from vicrop_engine.vicrop.tiles import VISION_BATCH

QUESTION = "What is written on the red sign?"
OTHER = "How many people are there in the picture?"
PREFIX = 1 + 16 * 16
FEW: dict[str, Any] = {"max_new_tokens": 3, "high_res": "on"}


def detailed(width: int, height: int) -> Image.Image:
    """A seeded picture with large shapes, different in every tile."""
    coarse = np.random.default_rng([width, height]).integers(0, 256, (17, 17, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def spent(engine: ViCropEngine, ask: Callable[[], Answer]) -> tuple[Answer, Counters]:
    """The answer, and what it added to the counters."""
    before = dataclasses.asdict(engine.counters)
    answer = ask()
    after = dataclasses.asdict(engine.counters)
    engine.check_integrity()
    return answer, Counters(**{name: after[name] - before[name] for name in after})


def suffixes(engine: ViCropEngine, *questions: str) -> list[int]:
    prompts, (layout, _) = engine._model.prompts, engine._model.family.layouts(Way())
    return [len(prompts.one_image(question, layout).suffix) for question in questions]


def test_tiles_stop_at_the_heatmap_layer_after_one_run_of_the_tower(engine: ViCropEngine) -> None:
    question, general = suffixes(engine, QUESTION, "Write a general description of the image.")
    answer, cost = spent(engine, lambda: engine.ask(detailed(1500, 1100), QUESTION, **FEW))
    assert (answer.high_res, len(answer.tiles)) == (True, 4)
    assert (cost.vision_images, cost.vision_passes, cost.vision_hits) == (1 + 4 + 1, 3, 0)
    assert (cost.prefix_prefills, cost.general_prefills) == (1 + 4, 4)
    whole = PREFIX + question + (PREFIX - 1 + question)
    assert cost.upper_tokens - cost.decode_steps == whole, "no tile goes above the heatmap layer"
    assert cost.lower_tokens - cost.decode_steps == whole + 4 * (PREFIX + question + general)
    assert answer.tokens.prefill == cost.lower_tokens - cost.decode_steps
    assert answer.tokens.reused == 5 * PREFIX, (
        "each tile's for the general prompt, the picture's for the crop"
    )
    first, final = len(answer.first_token_ids), len(answer.token_ids)
    assert cost.lower_passes - max(first - 2, final - 1) == 1 + 4 + 1, "one pass per tile"


def test_a_second_question_reuses_picture_and_tiles(engine: ViCropEngine) -> None:
    (question,) = suffixes(engine, OTHER)
    engine.ask(detailed(1500, 1100), QUESTION, **FEW)
    answer, cost = spent(engine, lambda: engine.ask(detailed(1500, 1100), OTHER, **FEW))
    assert (cost.vision_images, cost.prefix_prefills, cost.prefix_hits) == (1, 0, 5), "the new crop alone"
    assert (cost.general_prefills, cost.general_hits, cost.prefix_moves) == (0, 4, 0)
    assert cost.lower_tokens - cost.decode_steps == question + 4 * question + (PREFIX - 1 + question)
    assert answer.tokens.prefill == 6 * question + PREFIX - 1


def test_tiles_that_do_not_all_fit_the_cache_leave_it_to_the_picture(
    engine: ViCropEngine,
) -> None:
    """The picture's prefix and the image embeds are kept; a tile's keys and values are not."""
    engine.ask(detailed(1500, 1100), QUESTION, max_new_tokens=3, high_res="off")
    prefixes = engine._model.prefixes
    prefixes.capacity = int(2.5 * prefixes.nbytes)
    wanted, cost = spent(engine, lambda: engine.ask(detailed(1500, 1100), QUESTION, **FEW))
    assert (len(prefixes), cost.prefix_prefills) == (1, 4)
    answer, cost = spent(engine, lambda: engine.ask(detailed(1500, 1100), QUESTION, **FEW))
    assert (cost.prefix_hits, cost.prefix_prefills) == (1, 4)
    assert (cost.vision_images, cost.vision_hits) == (0, 5)
    assert answer.crop_box == wanted.crop_box
    assert answer.token_ids == wanted.token_ids


def test_more_tiles_than_one_run_of_the_tower_takes(engine: ViCropEngine) -> None:
    answer, cost = spent(engine, lambda: engine.ask(detailed(5000, 300), QUESTION, **FEW))
    assert len(answer.tiles) == 5 > VISION_BATCH
    assert cost.vision_passes == 1 + 2 + 1
    assert cost.vision_images == 1 + 5 + 1


def test_square_tiles_are_the_maps_of_their_crops_over_their_means(engine: ViCropEngine) -> None:
    image = detailed(2048, 1024)
    answer = engine.ask(image, QUESTION, **FEW)
    alone = [
        engine.ask(image.crop(box), QUESTION, max_new_tokens=1, high_res="off").heatmap
        for box in answer.tiles
    ]
    assert answer.tiles == ((0, 0, 1024, 1024), (1024, 0, 2048, 1024))
    wanted = np.hstack([values / values.mean() for values in alone if values is not None])
    np.testing.assert_allclose(answer.heatmap, wanted, rtol=1e-5)  # type: ignore[arg-type]
    assert answer.heatmap_box == (0, 0, 2048, 1024)


def test_cells_lie_where_their_patches_were(engine: ViCropEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With each patch's mean brightness as its value, the stitched map is the picture in small."""

    def brightness(_: object, state: RequestState) -> Any:
        vision, settings = state.model.manifest.vision, state.model.preprocessing
        grid = state.grid
        part = state.picture.image.convert("L")
        inside = grid.last_row - grid.first_row, grid.last_col - grid.first_col
        values = np.full((vision.rows, vision.cols), np.nan, np.float32)
        small = part.resize(inside[::-1], Image.Resampling.BOX)
        values[grid.first_row : grid.last_row, grid.first_col : grid.last_col] = np.asarray(small)
        assert settings.fit == "pad"
        return values

    monkeypatch.setattr(RelativeAttention, "heatmap", brightness)
    monkeypatch.setattr(RelativeAttention, "evens_tiles", False)
    image = Image.radial_gradient("L").resize((1500, 2050)).convert("RGB")
    answer = engine.ask(image, QUESTION, **FEW)
    assert answer.heatmap is not None
    assert answer.heatmap.shape == (3 * 15, 2 * 16), "tiles of 750 x 683 pixels on 16 x 15 patches"
    wanted = np.asarray(image.convert("L").resize((32, 45), Image.Resampling.BOX), np.float32)
    assert np.abs(answer.heatmap - wanted).max() <= 2


def test_tiles_that_look_like_the_picture_share_its_prefix(engine_directory: Path) -> None:
    """Of one colour, tiles and picture are the same to the tower; nothing is mixed up and little is run."""
    image = Image.new("RGB", (2048, 2048), (90, 140, 60))
    off = ViCropEngine.load(engine_directory).ask(image, QUESTION, max_new_tokens=3, high_res="off")
    for first_answer in (True, False):
        fresh = ViCropEngine.load(engine_directory)
        on, cost = spent(fresh, lambda: fresh.ask(image, QUESTION, first_answer=first_answer, **FEW))  # noqa: B023
        assert (cost.vision_images, cost.prefix_prefills, cost.prefix_hits) == (1, 1, 4)
        assert on.token_ids == off.token_ids
        assert on.first_token_ids == (off.first_token_ids if first_answer else ())
        assert on.heatmap is not None
        np.testing.assert_allclose(on.heatmap, np.tile(on.heatmap[:16, :16], (2, 2)), rtol=1e-4)


def test_answers_are_those_on_the_whole_picture(engine: ViCropEngine) -> None:
    image = detailed(1500, 1100)
    on = engine.ask(image, QUESTION, **FEW)
    off = engine.ask(image, QUESTION, max_new_tokens=3, high_res="off")
    assert on.first_token_ids == off.first_token_ids
    given = engine.ask(image, QUESTION, max_new_tokens=3, box=on.crop_box)
    assert given.token_ids == on.token_ids
    bare, cost = spent(engine, lambda: engine.ask(image, QUESTION, first_answer=False, **FEW))
    assert (bare.token_ids, bare.crop_box, bare.answer_without_crop) == (on.token_ids, on.crop_box, None)
    assert cost.upper_tokens == cost.decode_steps + PREFIX - 1 + suffixes(engine, QUESTION)[0]


def test_a_shorter_question_looks_into_tiles(engine: ViCropEngine) -> None:
    image = detailed(1500, 1100)
    looked, full = engine.ask(image, OTHER, **FEW), engine.ask(image, QUESTION, **FEW)
    answer = engine.ask(image, QUESTION, localize=OTHER, **FEW)
    np.testing.assert_allclose(answer.heatmap, looked.heatmap, rtol=1e-5)  # type: ignore[arg-type]
    assert (answer.crop_box, answer.first_token_ids) == (looked.crop_box, full.first_token_ids)


def test_layers_above_the_heatmap_layer_take_tiles_further(engine: ViCropEngine) -> None:
    answer, cost = spent(engine, lambda: engine.ask(detailed(1500, 300), QUESTION, layers="all", **FEW))
    assert (answer.layers, len(answer.tiles)) == ((0, 1, 2, 3), 2)
    assert cost.upper_tokens == cost.lower_tokens


def test_a_localizer_of_pixels_alone_runs_no_graph_on_tiles(
    engine: ViCropEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it keeps with a tile's prefix is there for the next question."""
    counted: list[int] = []

    def brightness(_: object, state: RequestState) -> Any:
        counted.append(len(state.prefix.general))
        state.prefix.general[0] = np.zeros(3, np.float32)
        assert state.prompts.question == engine._model.prompts.one_image(OTHER, state.seen.layout)
        return state.seen.inputs.pixels.mean(axis=(0, 1)).reshape(16, 14, 16, 14).mean(axis=(1, 3))

    monkeypatch.setattr(RelativeAttention, "targets_of_tile", PassTargets(answer=False, layers=()))
    monkeypatch.setattr(RelativeAttention, "heatmap", brightness)
    keywords = {**FEW, "first_answer": False, "localize": OTHER}
    answer, cost = spent(engine, lambda: engine.ask(detailed(1500, 1100), QUESTION, **keywords))
    assert len(answer.tiles) == 4
    assert (cost.vision_images, cost.prefix_prefills) == (2, 1)
    assert cost.lower_passes - cost.decode_steps == 1
    spent(engine, lambda: engine.ask(detailed(1500, 1100), QUESTION, **keywords))
    assert counted == [0] * 4 + [1] * 4


def test_a_localizer_that_needs_the_answer_takes_tiles_to_the_top(
    engine: ViCropEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RelativeAttention, "targets_of_tile", PassTargets(answer=True, layers=(1,)))
    question, general = suffixes(engine, QUESTION, "Write a general description of the image.")
    _, cost = spent(engine, lambda: engine.ask(detailed(1500, 1100), QUESTION, **FEW))
    whole = PREFIX + question + (PREFIX - 1 + question)
    assert cost.upper_tokens - cost.decode_steps == whole + 4 * (PREFIX + question)
    assert cost.lower_tokens - cost.upper_tokens == 4 * general


@pytest.mark.parametrize(
    ("size", "keywords", "tiles"),
    [
        ((1536, 300), {}, 0),
        ((1537, 300), {}, 2),
        ((1537, 300), {"high_res": "off"}, 0),
        ((1537, 300), {"compat": "mllms-know"}, 0),
        ((1537, 300), {"compat": "mllms-know", "high_res": "on"}, 5),
        ((1537, 300), {"method": "none"}, 0),
        ((1537, 300), {"box": (0, 0, 50, 50)}, 0),
        ((900, 300), {"high_res": "on"}, 1),
        ((200, 100), {"high_res": "on"}, 0),
        ((110_000, 2), {}, 0),
    ],
)
def test_when_tiles_are_taken(
    engine: ViCropEngine, size: tuple[int, int], keywords: dict[str, Any], tiles: int
) -> None:
    answer = engine.ask(detailed(*size), QUESTION, max_new_tokens=1, first_answer=False, **keywords)
    assert (len(answer.tiles), answer.high_res) == (tiles, tiles > 0)
    assert answer.to_json()["high_res"] is answer.high_res


def test_one_tile_is_the_picture_itself(engine: ViCropEngine, picture: Image.Image) -> None:
    on, cost = spent(engine, lambda: engine.ask(picture, QUESTION, **FEW))
    off = engine.ask(picture, QUESTION, max_new_tokens=3, high_res="off")
    assert (cost.vision_images, cost.prefix_prefills) == (2, 1)
    np.testing.assert_array_equal(on.heatmap, off.heatmap)  # type: ignore[arg-type]
    assert (on.crop_box, on.heatmap_box) == (off.crop_box, off.heatmap_box)


@pytest.mark.parametrize("compat", [None, "mllms-know"])
@pytest.mark.parametrize("size", [(768, 1024), (500, 3000), (1500, 4000), (2051, 1025), (20000, 300)])
def test_where_the_published_code_fails_there_is_a_box_inside_the_picture(
    engine: ViCropEngine, size: tuple[int, int], compat: str | None
) -> None:
    answer = engine.ask(
        detailed(*size), QUESTION, compat=compat, first_answer=False, max_new_tokens=1, high_res="on"
    )
    assert answer.crop_box is not None
    x0, y0, x1, y1 = answer.crop_box
    assert all(type(edge) is int for edge in answer.crop_box)
    assert 0 <= x0 < x1 <= size[0]
    assert 0 <= y0 < y1 <= size[1]
    assert answer.heatmap is not None
    assert np.isfinite(answer.heatmap).all()


def test_windows_smaller_than_a_cell(engine: ViCropEngine) -> None:
    """The published search finds NaN here and takes the top left corner."""
    image = Image.radial_gradient("L").resize((7000, 6000)).convert("RGB")
    answer = engine.ask(image, QUESTION, first_answer=False, max_new_tokens=1, high_res="off")
    assert answer.crop_box is not None
    assert answer.heatmap is not None
    assert 7000 / 16 > 224 * 1.8, "a cell is wider than all windows but the largest"
    row, col = np.unravel_index(answer.heatmap.argmax(), answer.heatmap.shape)
    assert (row, col) != (0, 0)
    assert answer.crop_box[:2] != (0, 0)


def test_no_general_attention_leaves_heatmap_and_box_sound(
    engine: ViCropEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "vicrop_engine.vicrop.request_state.RequestState.general_rows"
    monkeypatch.setattr(rows, lambda state: np.zeros((1, 4, 256), np.float32))
    for high_res in ("on", "off"):
        answer = engine.ask(detailed(1500, 1100), QUESTION, max_new_tokens=1, high_res=high_res)
        assert answer.heatmap is not None
        assert np.isfinite(answer.heatmap).all()
        assert answer.crop_box is not None
        x0, y0, x1, y1 = answer.crop_box
        assert 0 <= x0 < x1 <= 1500
        assert 0 <= y0 < y1 <= 1100
        found = (answer.heatmap > 0.99 * answer.heatmap.max()).nonzero()
        assert len(found[0]) < answer.heatmap.size / 4, "attention still shows"


def test_an_empty_answer_is_an_empty_text(
    engine: ViCropEngine, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    (end,) = engine.manifest.tokens.eos
    take = AnswerTokens.take
    monkeypatch.setattr(AnswerTokens, "take", lambda answer, logits: take(answer, np.eye(len(logits))[end]))
    answer = engine.ask(picture, QUESTION)
    assert (answer.answer, answer.answer_without_crop) == ("", "")
    assert answer.crop_box is not None
    assert answer.tokens.decoded == 2
