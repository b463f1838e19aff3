"""The graphs TensorRT is given, on ONNX Runtime's CPU provider: they say what the `cpu` engine says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tensorrt_target.conftest import MODEL
from vicrop_engine import ViCropEngine
from vicrop_engine.errors import SettingError
from vicrop_engine.examples import signs

FEW = {"max_new_tokens": 5}


def test_answers_boxes_and_heatmaps_are_those_of_the_cpu_engine(on_cpu: ViCropEngine) -> None:
    """On the whole of the signs set."""
    cpu, compared = ViCropEngine.load(MODEL.shipped_engine), 0
    for picture, example in signs():
        got, wanted = (engine.ask(picture, example.question, **FEW) for engine in (on_cpu, cpu))
        assert (got.answer, got.answer_without_crop) == (wanted.answer, wanted.answer_without_crop)
        assert got.token_ids == wanted.token_ids
        assert got.crop_box == wanted.crop_box
        assert got.heatmap is not None
        assert wanted.heatmap is not None
        distance = np.linalg.norm(got.heatmap - wanted.heatmap) / np.linalg.norm(wanted.heatmap)
        assert distance <= 1e-4, example
        compared += 1
    assert compared == 201
    assert on_cpu.provider == cpu.provider == "CPUExecutionProvider"
    assert on_cpu.manifest.target == "tensorrt"
    on_cpu.check_integrity()


def test_tiles_go_through_the_tower_one_by_one(on_cpu: ViCropEngine) -> None:
    cpu = ViCropEngine.load(MODEL.shipped_engine)
    picture = np.random.default_rng(0).integers(0, 256, (700, 1300, 3), np.uint8)
    got, wanted = (
        engine.ask(picture, "What is written on the red sign?", high_res="on", **FEW)
        for engine in (on_cpu, cpu)
    )
    assert len(got.tiles) == 2
    assert (got.crop_box, got.token_ids) == (wanted.crop_box, wanted.token_ids)
    np.testing.assert_allclose(got.heatmap, wanted.heatmap, rtol=1e-3)


@pytest.mark.parametrize(
    ("question", "settings"),
    [
        ("What is written on the red sign?", {"divisor_floor": 0.25}),
        ("What is written on the red sign?", {"method": "target"}),
        ("What does it say?", {"method": "target"}),
        ("What is written on the red sign?", {"method": "carve"}),
    ],
    ids=["floor", "target", "target by the model", "carve"],
)
def test_other_ways_of_looking_are_those_of_the_cpu_engine(
    on_cpu: ViCropEngine, question: str, settings: dict[str, Any]
) -> None:
    picture = np.random.default_rng(4).integers(0, 256, (400, 500, 3), np.uint8)
    cpu = ViCropEngine.load(MODEL.shipped_engine)
    got, wanted = (engine.ask(picture, question, **settings, **FEW) for engine in (on_cpu, cpu))
    assert (got.crop_box, got.crop_parts, got.layers) == (wanted.crop_box, wanted.crop_parts, wanted.layers)
    assert (got.target, got.target_from) == (wanted.target, wanted.target_from)
    assert (got.token_ids, got.first_token_ids) == (wanted.token_ids, wanted.first_token_ids)
    np.testing.assert_allclose(got.heatmap, wanted.heatmap, rtol=1e-3)


def test_a_second_question_reuses_the_prefix_and_larger_buffers_take_it_along(on_cpu: ViCropEngine) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (400, 500, 3), np.uint8)
    short, long = "What is written?", "What is written on the red sign? " * 6
    on_cpu.ask(picture, short, method="none", **FEW)
    before = on_cpu.counters
    moved = on_cpu.ask(picture, long, **FEW)
    after = on_cpu.counters
    assert after.prefix_hits == before.prefix_hits + 1
    assert after.prefix_moves == before.prefix_moves + 1
    fresh = ViCropEngine.load(MODEL.shipped_engine).ask(picture, long, **FEW)
    assert (moved.answer, moved.crop_box) == (fresh.answer, fresh.crop_box)


@pytest.mark.parametrize("method", ["grad-att", "pure-grad"])
def test_methods_that_need_gradients_say_which_build_has_them(on_cpu: ViCropEngine, method: str) -> None:
    with pytest.raises(SettingError, match=rf"'{method}' needs gradients.*build llava-signs --target cpu"):
        on_cpu.ask(np.zeros((400, 400, 3), np.uint8), "What is it?", method=method)


def test_a_cpu_engine_does_not_run_on_tensorrt() -> None:
    with pytest.raises(SettingError, match=r"got provider 'tensorrt' .* for an engine for cpu"):
        ViCropEngine.load(MODEL.shipped_engine, provider="tensorrt")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"provider": "cuda"}, "got provider 'cuda', wanted 'tensorrt' or 'cpu'"),
        ({"provider": "cpu", "device": 1}, "got device 1, wanted the number of a GPU"),
        ({"provider": "cpu", "share_weights": True}, "share_weights is for engines for cpu"),
    ],
)
def test_places_that_are_none(directory: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        ViCropEngine.load(directory, **settings)
