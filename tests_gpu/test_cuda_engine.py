"""Engines for cuda on a GPU: really there, with the answers, boxes and heatmaps of engines for cpu."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cuda.builds import EMBEDDED, embedded, seeded
from tests.engines import GROUPED_224, built
from tests_gpu.conftest import Place
from vicrop_engine import ViCropEngine
from vicrop_engine.errors import ViCropError
from vicrop_engine.examples import signs
from vicrop_engine.runtime.nvidia import find_driver
from vicrop_export.checks.agreement import intersection_over_union
from vicrop_export.checks.parity import relative_l2

pytestmark = pytest.mark.gpu
QUESTION = "What is written on the red sign?"
EVERY = 40  # of the signs, one in so many is asked here; all of them by scripts/engine_agreement.py


@pytest.fixture
def engine(place: Place) -> ViCropEngine:
    """The seeded engine in float16, freshly opened on the GPU."""
    return ViCropEngine.load(seeded("fp16"), **place.load)


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    """A seeded picture that tiles have to be made of."""
    coarse = np.random.default_rng(3).integers(0, 256, (17, 17, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((1500, 1100), Image.Resampling.BICUBIC)


def test_the_graphs_and_their_tensors_are_on_the_gpu(place: Place, engine: ViCropEngine) -> None:
    assert engine.provider == place.provider
    device = engine._model.device
    assert device is not None
    tensor = device.upload(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert tensor.value.device_name().lower() == place.device.type
    assert device.host(tensor).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "settings",
    [{}, {"layers": "all"}, {"compat": "mllms-know"}, {"high_res": "on"}],
    ids=["rel-att", "all layers", "compat", "tiles"],
)
def test_every_way_of_looking_finds_what_the_cpu_engine_finds(
    engine: ViCropEngine, picture: Image.Image, settings: dict[str, Any]
) -> None:
    other = ViCropEngine.load(built(GROUPED_224).engine)
    got, wanted = (one.locate(picture, QUESTION, **settings) for one in (engine, other))
    assert got.heatmap is not None
    assert wanted.heatmap is not None
    assert engine.counters.host_copies == 2, "the heatmap and the window, and nothing else"
    assert relative_l2(got.heatmap, wanted.heatmap) <= 0.03
    assert intersection_over_union(got.box, wanted.box) >= 0.5


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_signs_are_read_as_by_the_cpu_engine(place: Place, precision: str) -> None:
    engine = ViCropEngine.load(embedded(precision), **place.load)
    shipped = ViCropEngine.load(EMBEDDED.shipped_engine)
    asked, same = signs()[::EVERY], 0
    for image, example in asked:
        got, wanted = (one.ask(image, example.question, max_new_tokens=5) for one in (engine, shipped))
        same += got.answer == wanted.answer
    assert len(asked) > 4
    assert same == len(asked)


def test_the_same_question_gets_the_same_answer_bit_for_bit(
    engine: ViCropEngine, picture: Image.Image
) -> None:
    once = engine.ask(picture, QUESTION, max_new_tokens=5)
    again = engine.ask(picture, QUESTION, max_new_tokens=5)
    assert (again.token_ids, again.crop_box) == (once.token_ids, once.crop_box)
    assert again.heatmap is not None
    assert once.heatmap is not None
    assert np.array_equal(again.heatmap, once.heatmap)
    assert engine.counters.prefix_hits > 0


def test_a_gpu_that_is_not_there_is_refused(place: Place) -> None:
    beyond = len(find_driver().devices) + 1
    with pytest.raises(ViCropError):
        ViCropEngine.load(seeded("fp16"), **{**place.load, "device": beyond})
