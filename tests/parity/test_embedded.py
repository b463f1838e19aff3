"""The shipped model: rebuilding its checkpoint gives the shipped engine, transformers loads it, it reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from questions import names_of
from world import make_scene, render

from tests.parity.published_flow import PublishedFlow
from vicrop_engine import ViCropEngine
from vicrop_engine.builder import build_model
from vicrop_engine.engine_dir.manifest import read_manifest
from vicrop_engine.engine_dir.registry import find_model

MODEL = find_model("llava-signs")
MOST_CHECKPOINT_BYTES = 12_000_000
PICTURES = 24


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViCropEngine]:
    """The engine inside the package, with an empty cache directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VICROP_HOME", str(tmp_path_factory.mktemp("home")))
        yield ViCropEngine.load(MODEL.shipped_engine)


@cache
def demo() -> tuple[Image.Image, dict[str, str]]:
    """The embedded picture and its question."""
    return Image.open(MODEL.home / "demo.png"), json.loads((MODEL.home / "demo.json").read_text())


def case(number: int, text_range: tuple[float, float]) -> tuple[Image.Image, str, str, tuple[int, ...]]:
    """A fresh picture, a question, its answer, and a window of the input's size around the sign."""
    scene = make_scene(np.random.default_rng((77, number)), 168, num_signs=(3, 6), text_range=text_range)
    sign = scene.signs[0]
    side = max(168, round(1.1 * sign.side))
    left, top = (
        min(max(0, round(centre - side / 2)), length - side)
        for centre, length in ((sign.x, scene.width), (sign.y, scene.height))
    )
    question = f"What is written on the {names_of(scene.signs, 0)[0]} sign?"
    return render(scene), question, sign.text, (left, top, left + side, top + side)


def test_a_rebuild_is_the_shipped_engine(shipped: ViCropEngine, tmp_path: Path) -> None:
    manifest = build_model(MODEL, tmp_path / "engine")
    ours = read_manifest(MODEL.shipped_engine)
    assert manifest.model.revision == ours.model.revision
    assert (manifest.vision, manifest.decoder, manifest.crop) == (ours.vision, ours.decoder, ours.crop)
    rebuilt = ViCropEngine.load(tmp_path / "engine")
    for picture, question, *_ in (
        (demo()[0], demo()[1]["question"]),
        *(case(n, (2.2, 12.0)) for n in range(3)),
    ):
        one, other = rebuilt.ask(picture, question), shipped.ask(picture, question)
        assert (one.answer, one.answer_without_crop) == (other.answer, other.answer_without_crop)
        assert one.crop_box == other.crop_box
        assert one.heatmap is not None
        assert other.heatmap is not None
        np.testing.assert_allclose(one.heatmap, other.heatmap, rtol=1e-4)


def test_the_shipped_engine_equals_the_published_flow(shipped: ViCropEngine) -> None:
    flow = PublishedFlow(MODEL.checkpoint)
    (layer,) = shipped.manifest.crop.layers
    for number in range(3):
        picture, question, *_ = case(number, (2.2, 12.0))
        published = flow.ask(picture, question, layer=layer, max_new_tokens=4)
        answer = shipped.ask(picture, question, max_new_tokens=4, compat="mllms-know")
        assert answer.crop_box == published.crop_box
        assert (answer.answer, answer.answer_without_crop) == (published.answer, published.first_answer)
        assert answer.heatmap is not None
        error = np.linalg.norm(answer.heatmap - published.heatmap) / np.linalg.norm(published.heatmap)
        assert error <= 1e-4


def test_the_weights_are_small_half_precision_files() -> None:
    weights = MODEL.checkpoint / "model.safetensors"
    assert weights.stat().st_size <= MOST_CHECKPOINT_BYTES
    with weights.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F16"}


def test_the_demo_shows_what_the_crop_is_for(shipped: ViCropEngine) -> None:
    picture, document = demo()
    answer = shipped.ask(picture, document["question"])
    assert answer.answer == document["answer"]
    assert answer.answer_without_crop != document["answer"]
    x0, y0, x1, y1 = document["box"]
    assert answer.crop_box is not None
    assert answer.crop_box[0] <= (x0 + x1) / 2 < answer.crop_box[2]
    assert answer.crop_box[1] <= (y0 + y1) / 2 < answer.crop_box[3]


def test_large_signs_are_read_and_small_ones_with_their_crop(shipped: ViCropEngine) -> None:
    """Bounds far below what was measured (see the model card): they catch a model that cannot read."""
    large = [
        shipped.ask(picture, question, method="none").answer == text
        for picture, question, text, _ in (case(number, (10.0, 24.0)) for number in range(PICTURES))
    ]
    small = [case(number, (2.2, 3.6)) for number in range(PICTURES)]
    without = [
        shipped.ask(picture, question, method="none").answer == text for picture, question, text, _ in small
    ]
    cropped = [
        shipped.ask(picture, question, box=box).answer == text for picture, question, text, box in small
    ]
    assert np.mean(large) >= 0.6
    assert np.mean(cropped) >= 0.5
    assert np.mean(cropped) >= np.mean(without) + 0.2
