"""Method carve: what runs for it (by the counters), its layers, tiles, other requests, what it says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.vicrop.test_ask import FEW, QUESTION, spent
from tests.vicrop.test_tiles import detailed
from vicrop_engine import Answer, ViCropEngine
from vicrop_engine.vicrop.localizers.carved_regions import carve_layers

CARVE: dict[str, Any] = {"method": "carve", **FEW}


@pytest.mark.parametrize(
    ("num_layers", "layers"),
    [
        (32, (20, 21, 22, 23, 24, 25)),
        (28, (17, 18, 19, 20, 21, 22)),
        (36, (23, 24, 25, 26, 27, 28)),
        (4, (2, 3)),
        (1, (0,)),
    ],
)
def test_its_layers_grow_with_the_decoder(num_layers: int, layers: tuple[int, ...]) -> None:
    assert carve_layers(num_layers) == layers


def test_it_runs_what_rel_att_runs_at_its_layers(engine: ViCropEngine, picture: Image.Image) -> None:
    usual, cost = spent(engine, lambda: engine.ask(picture, QUESTION, layers="2-3", **FEW))
    engine.forget()
    got, spends = spent(engine, lambda: engine.ask(picture, QUESTION, **CARVE))
    assert got.layers == usual.layers == (2, 3)
    assert (got.heatmap is None, usual.heatmap is None) == (False, False)
    same = "vision_images", "prefix_prefills", "general_prefills", "vision_passes"
    assert [getattr(spends, name) for name in same] == [getattr(cost, name) for name in same]
    assert got.tokens.prefill == usual.tokens.prefill
    assert got.first_token_ids == usual.first_token_ids


def test_other_layers_are_those_asked_for(engine: ViCropEngine, picture: Image.Image) -> None:
    assert engine.ask(picture, QUESTION, layers="0-1", **CARVE).layers == (0, 1)


def check_parts(answer: Answer) -> None:
    assert answer.crop_parts
    boxes = np.array(answer.crop_parts)
    around = (*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist())
    assert answer.crop_box == around
    document = json.loads(json.dumps(answer.to_json()))
    assert document["crop_parts"] == boxes.tolist()


def test_the_crop_is_black_between_its_parts(engine: ViCropEngine) -> None:
    """With the same box and nothing black the model is as sure of something else."""
    image = detailed(700, 500)
    got = engine.ask(image, QUESTION, **CARVE)
    check_parts(got)
    whole = engine.ask(image, QUESTION, box=got.crop_box, **FEW)
    assert whole.first_token_ids == got.first_token_ids
    assert whole.confidence != got.confidence, "what is shown is not all of the box"
    assert "crop_parts" not in whole.to_json()


def test_a_picture_within_a_window_is_its_own_crop(engine: ViCropEngine) -> None:
    answer = engine.ask(Image.new("RGB", (50, 40), "grey"), QUESTION, **CARVE)
    assert (answer.crop_box, answer.crop_parts, answer.heatmap) == ((0, 0, 50, 40), (), None)


def test_regions_are_of_all_tiles_together(engine: ViCropEngine) -> None:
    answer, cost = spent(engine, lambda: engine.ask(detailed(1500, 1100), QUESTION, high_res="on", **CARVE))
    assert (len(answer.tiles), cost.general_prefills) == (4, 4)
    assert answer.heatmap is not None
    assert answer.heatmap.shape == (24, 32)
    check_parts(answer)


def test_among_other_requests_it_is_the_same(engine: ViCropEngine) -> None:
    pictures = [detailed(700, 500), detailed(500, 700)]
    alone = [engine.ask(picture, QUESTION, **CARVE) for picture in pictures]
    engine.forget()
    assert engine.ask_batch([(picture, QUESTION) for picture in pictures], **CARVE) == alone
