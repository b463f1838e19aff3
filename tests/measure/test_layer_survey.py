"""Layers compared on examples: each layer's window is the one an ask with that layer finds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.samples import write_examples
from vicrop_engine import ViCropEngine
from vicrop_engine.cli import main
from vicrop_engine.errors import SettingError
from vicrop_engine.examples import Example, read_examples
from vicrop_engine.images.geometry import whole_grid
from vicrop_engine.measure.layer_survey import (
    ALL,
    LayerScore,
    LayerSurvey,
    best_layer,
    contrast,
    score_layers,
)

QUESTION = "What is written on the red sign?"


@pytest.fixture(scope="module")
def engine(engine_directory: Path) -> ViCropEngine:
    return ViCropEngine.load(engine_directory)


def test_each_layer_finds_what_an_ask_with_it_finds(engine: ViCropEngine, picture: Image.Image) -> None:
    survey = LayerSurvey(engine.manifest.decoder.num_layers)
    engine.locate(picture, QUESTION, method=survey, high_res="off")
    names = [*map(str, range(engine.manifest.decoder.num_layers)), ALL]
    assert list(survey.boxes) == names
    for name in names:
        answer = engine.ask(picture, QUESTION, layers=name, high_res="off", max_new_tokens=1)
        assert survey.boxes[name] == answer.crop_box
        np.testing.assert_allclose(survey.heatmaps[name], answer.heatmap, rtol=1e-5)


def test_locating_runs_nothing_of_an_answer(engine: ViCropEngine, picture: Image.Image) -> None:
    """Only the lower layers for the default layers; the ask that follows continues from the same prefix."""
    before = engine.counters
    found = engine.locate(picture.rotate(90), QUESTION)
    after = engine.counters
    assert after.upper_passes == before.upper_passes
    assert after.decode_steps == before.decode_steps
    assert after.vision_images == before.vision_images + 1
    answer = engine.ask(picture.rotate(90), QUESTION, max_new_tokens=1)
    assert answer.crop_box == found.box
    assert engine.counters.prefix_hits == after.prefix_hits + 1


def test_no_method_no_window(engine: ViCropEngine, picture: Image.Image) -> None:
    with pytest.raises(SettingError, match="finds no crop"):
        engine.locate(picture, QUESTION, method="none")


def test_scores_are_of_all_examples(engine: ViCropEngine, picture: Image.Image, tmp_path: Path) -> None:
    """A place that every window holds, and one that none does, because it is nowhere near the picture."""
    path = write_examples(tmp_path, picture, [(0, 0, 1, 1), (1, 1, 2, 2)])
    held = engine.locate(picture, QUESTION, layers=0, high_res="off").box
    middle = (held[0] + held[2]) // 2, (held[1] + held[3]) // 2
    places = [(*middle, *middle), (5000, 5000, 5001, 5001)]
    examples = zip(read_examples(path), places, strict=True)
    asked = [(image, replace(each, box=box)) for (image, each), box in examples]
    scores = score_layers(engine, engine.manifest.decoder.num_layers, asked)
    assert [score.layer for score in scores] == [*map(str, range(len(scores) - 1)), ALL]
    assert scores[0].holds == 0.5
    assert all(score.holds <= 0.5 for score in scores)
    assert all(np.isfinite(score.contrast) for score in scores)


def test_the_best_holds_most_then_contrasts_most() -> None:
    scores = [LayerScore("0", 0.5, 9.0), LayerScore("1", 0.7, 2.0), LayerScore("2", 0.7, 3.0)]
    assert best_layer(scores).layer == "2"


def test_contrast_by_hand() -> None:
    grid = whole_grid(2, 4, (40, 20))
    values = np.array([[1, 1, 1, 1], [1, 1, 9, 1]], np.float32)
    assert contrast(values, grid, (22, 12, 28, 18)) == pytest.approx(9 / 2)
    assert contrast(values, grid, (12, 12, 28, 18)) == pytest.approx(5 / 2)
    assert contrast(values, grid, (25, 15, 25, 15)) == pytest.approx(9 / 2)
    assert contrast(np.zeros_like(values), grid, (0, 0, 40, 20)) == 1.0


def test_the_command(
    engine_directory: Path, picture: Image.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_examples(tmp_path, picture, [(400, 200, 440, 240)])
    assert main(["layers", str(engine_directory), "--examples", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["examples"] == 1
    assert document["best"] in {score["layer"] for score in document["scores"]}
    assert main(["layers", str(engine_directory), "--examples", str(path)]) == 0
    assert f"best: --layers {document['best']} " in capsys.readouterr().out
    assert main(["layers", str(engine_directory), "--examples", str(tmp_path / "none.json")]) == 2
    assert "cannot be read as JSON" in capsys.readouterr().err


def test_an_example_is_a_question_and_a_place() -> None:
    assert Example("a.png", "What?", (0, 0, 1, 1)).answer is None
