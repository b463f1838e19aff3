"""pure-grad in the runtime: what is computed once, where it may look, and what it does when it cannot run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from tests.engines import STRETCH_168, built
from vicrop_engine import ViCropEngine
from vicrop_engine.counters import Counters
from vicrop_engine.errors import SettingError
from vicrop_engine.vicrop.localizers.pure_gradient import gradient_heatmap

QUESTION, OTHER = "What is written on the red sign?", "How many people are there?"
ASK = {"method": "pure-grad", "max_new_tokens": 1}


def test_the_general_gradient_is_kept_with_the_picture(engine: ViCropEngine, picture: Image.Image) -> None:
    alone = engine.ask(picture, OTHER, **ASK)  # type: ignore[arg-type]
    assert (engine.counters.pixel_gradient_passes, engine.counters.pixel_gradients) == (1, 2)
    first = engine.ask(picture, QUESTION, **ASK)  # type: ignore[arg-type]
    second = engine.ask(picture, OTHER, **ASK)  # type: ignore[arg-type]
    assert (engine.counters.pixel_gradient_passes, engine.counters.pixel_gradients) == (3, 4)
    assert (engine.counters.prefix_prefills, engine.counters.general_prefills) == (1, 0)
    assert alone.heatmap is not None
    assert first.heatmap is not None
    assert second.heatmap is not None
    np.testing.assert_allclose(second.heatmap, alone.heatmap, rtol=1e-3)
    assert not np.allclose(first.heatmap, second.heatmap, rtol=1e-2)
    assert second.crop_box == alone.crop_box
    assert second.timings["heatmap"] > 0
    engine.check_integrity()


def test_answers_are_those_of_a_box_given(engine: ViCropEngine, picture: Image.Image) -> None:
    """Going back to the pixels leaves the prefix as it was, with and without a first answer before it."""
    for first_answer in (True, False):
        found = engine.ask(picture, QUESTION, method="pure-grad", first_answer=first_answer)
        assert found.crop_box is not None
        given = engine.ask(picture, QUESTION, box=found.crop_box)
        assert found.token_ids == given.token_ids


def test_cells_of_padding_are_zero_and_the_picture_is_searched(engine: ViCropEngine) -> None:
    """By default the whole of a wide picture is seen, between two bars that are not."""
    wide = Image.effect_noise((900, 300), 80).convert("RGB")
    answer = engine.ask(wide, QUESTION, **ASK)  # type: ignore[arg-type]
    assert answer.heatmap is not None
    assert answer.crop_box is not None
    vision = engine.manifest.vision
    shown = vision.image_size * 300 / 900
    first = (vision.image_size - shown) / 2 / vision.patch_size
    last = first + shown / vision.patch_size
    assert not answer.heatmap[: math.floor(first)].any()
    assert not answer.heatmap[math.ceil(last) :].any()
    assert (answer.heatmap[math.ceil(first) : math.floor(last)] > 0).all()


def test_a_picture_within_the_window_is_its_own_crop(engine: ViCropEngine) -> None:
    small = Image.effect_noise((150, 90), 80).convert("RGB")
    answer = engine.ask(small, QUESTION, **ASK)  # type: ignore[arg-type]
    assert (answer.crop_box, answer.heatmap) == ((0, 0, 150, 90), None)
    assert engine.counters.pixel_gradient_passes == 0


def test_an_engine_without_the_graph_says_how_to_get_it(picture: Image.Image) -> None:
    engine = ViCropEngine.load(built(STRETCH_168).engine)
    with pytest.raises(SettingError, match="build llava-signs --pure-grad --force"):
        engine.ask(picture, QUESTION, **ASK)  # type: ignore[arg-type]
    assert engine.counters == Counters()


@pytest.mark.parametrize("weak", [0.0, 1e-45, 1e-38])
def test_maps_are_finite_whatever_the_general_gradient(weak: float) -> None:
    asked = np.array([[3e4, 1.0, 0.0, 1e-40]], np.float32).repeat(2, axis=0)
    usual = np.full_like(asked, weak)
    heatmap = gradient_heatmap(asked, usual, np.ones((3, 5), bool), 2)
    assert heatmap.dtype == np.float32
    assert np.isfinite(heatmap).all()
    assert np.isfinite(heatmap.sum(dtype=np.float32) * 10_000)
    assert heatmap[0, 0] > heatmap[0, 1]


def test_a_cell_is_the_mean_of_its_detail() -> None:
    asked, usual = np.array([[1, 2, 9, 8], [3, 4, 7, 6]], np.float32), np.full((2, 4), 2, np.float32)
    detail = np.array([[1, 0, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]], bool)
    np.testing.assert_array_equal(gradient_heatmap(asked, usual, detail, 2), [[0.5, 2.125]])
