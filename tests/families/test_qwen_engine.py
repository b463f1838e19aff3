"""An engine of Qwen's families does what every engine does, or refuses it with a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.engines import QWENS, Built, built_qwen
from tests.families.common import (
    FEW,
    OTHER,
    QUESTION,
    check_a_batch_and_the_scheduler,
    check_nothing_is_computed_twice,
)
from tests.qwen_documents import QwenSpec
from vicrop_engine import ViCropEngine
from vicrop_engine.engine_dir.flops import num_flops
from vicrop_engine.errors import SettingError
from vicrop_engine.images.seen import Way

SPECS = {"qwen2.5": QWENS["qwen2.5, grouped heads"], "qwen3": QWENS["qwen3, sharded"]}


@pytest.fixture(scope="module", params=SPECS)
def spec(request: pytest.FixtureRequest) -> QwenSpec:
    made: QwenSpec = SPECS[request.param]
    return made


@pytest.fixture(scope="module")
def made(spec: QwenSpec) -> Built:
    return built_qwen(spec)


@pytest.fixture
def engine(made: Built) -> ViCropEngine:
    return ViCropEngine.load(made.engine, threads=1)


@pytest.fixture
def image() -> Image.Image:
    random = np.random.default_rng(4)
    return Image.fromarray(random.integers(0, 256, (110, 150, 3), dtype=np.uint8)).resize((640, 470))


def test_nothing_is_computed_twice(engine: ViCropEngine, image: Image.Image) -> None:
    check_nothing_is_computed_twice(engine, image)


def test_a_batch_and_the_scheduler_give_what_ask_gives(made: Built, image: Image.Image) -> None:
    """Of pictures of several sizes, whose tokens are not equally many."""
    tall, small = image.crop((0, 0, 300, 400)), image.resize((90, 60))
    items = [(image, QUESTION), (tall, OTHER), (image, OTHER), (small, QUESTION), (tall, QUESTION)]
    assert not any(answer.notices for answer in check_a_batch_and_the_scheduler(made, items))


@pytest.mark.parametrize("method", ["rel-att", "grad-att"])
def test_high_res_looks_at_tiles_of_its_own(engine: ViCropEngine, method: str) -> None:
    random = np.random.default_rng(2)
    large = Image.fromarray(random.integers(0, 256, (120, 160, 3), dtype=np.uint8)).resize((1500, 1101))
    answer = engine.ask(large, QUESTION, method=method, high_res="on", **FEW)
    assert len(answer.tiles) == 4
    assert answer.heatmap is not None
    assert engine.ask(large, QUESTION, method=method, **FEW).high_res, "more than twice what it sees"
    rows, cols = answer.heatmap.shape
    assert rows % 2 == cols % 2 == 0
    assert cols > rows


def test_answers_one_after_the_other_are_those_side_by_side(
    engine: ViCropEngine, image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways count positions on from where the pictures end, which is not where their tokens do."""
    together = engine.ask(image, QUESTION, max_new_tokens=8)
    first = engine.ask(image, QUESTION, method="none", max_new_tokens=8)
    final = engine.ask(image, QUESTION, first_answer=False, max_new_tokens=8)
    assert together.first_token_ids == first.token_ids
    assert together.token_ids == final.token_ids
    monkeypatch.setattr(type(engine.model.decoder), "answers_side_by_side", False)
    engine.model.forget()
    apart = engine.ask(image, QUESTION, max_new_tokens=8)
    assert (apart.token_ids, apart.first_token_ids) == (together.token_ids, together.first_token_ids)


def test_positions_counted_by_row_give_another_map(
    engine: ViCropEngine, image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check that they matter: what transformers falls back to where it is not told of pictures."""
    right = engine.ask(image, QUESTION, **FEW)
    table = engine.model.decoder.table  # type: ignore[attr-defined]

    def by_row(ids: Any, images: Any, start: int) -> Any:
        return np.tile(np.arange(start, start + len(ids)), (3, 1))

    monkeypatch.setattr(table, "positions", by_row)
    engine.model.forget()
    wrong = engine.ask(image, QUESTION, **FEW)
    assert right.heatmap is not None
    assert wrong.heatmap is not None
    assert np.linalg.norm(wrong.heatmap - right.heatmap) > 0.05 * np.linalg.norm(right.heatmap)


def test_fewer_pixels_and_larger_crops(engine: ViCropEngine, image: Image.Image, spec: QwenSpec) -> None:
    side = 2 * spec.patch
    usual = engine.ask(image, QUESTION, **FEW)
    few = engine.ask(image, QUESTION, max_pixels=12 * side**2, **FEW)
    assert usual.heatmap is not None
    assert few.heatmap is not None
    assert few.heatmap.size <= 12 < usual.heatmap.size
    box = (0, 0, 2 * side, 2 * side)
    small = engine.ask(image, QUESTION, box=box, **FEW)
    larger = engine.ask(image, QUESTION, box=box, crop_min_pixels=24 * side**2, **FEW)
    assert larger.tokens.crop - small.tokens.crop >= 24 - 4 - 1


def test_what_it_does_not_have_is_refused(engine: ViCropEngine, image: Image.Image, spec: QwenSpec) -> None:
    with pytest.raises(SettingError, match="'pure-grad' goes back to the pixels"):
        engine.ask(image, QUESTION, method="pure-grad")
    with pytest.raises(SettingError, match="sees every picture as one"):
        engine.ask(image, QUESTION, crop_tiles="all")
    with pytest.raises(SettingError, match="this engine was built for"):
        engine.ask(image, QUESTION, max_pixels=10**9)
    if spec.kind == "qwen3_vl":
        with pytest.raises(SettingError, match="the published code has nothing for"):
            engine.ask(image, QUESTION, compat="mllms-know")


def test_fewer_tokens_of_the_crop_stay_where_they_are(engine: ViCropEngine, image: Image.Image) -> None:
    whole, fewer = (engine.ask(image, QUESTION, crop_tokens=tokens, **FEW) for tokens in ("all", 5))
    assert whole.tokens.crop > fewer.tokens.crop
    assert whole.crop_box == fewer.crop_box


def test_operations_are_those_of_the_formula(
    engine: ViCropEngine, image: Image.Image, spec: QwenSpec
) -> None:
    """By the sizes of the checkpoint: two for each multiply-add of a plain answer of one token."""
    with engine.tally.watching() as runs:
        answer = engine.ask(image, QUESTION, method="none", max_new_tokens=1)
    counted = engine.manifest.multiply_adds
    assert counted is not None
    flops = sum(num_flops(counted[graph], run.axes) for run in runs for graph in run.graphs)
    arrays = engine.model.family.see(image, Way()).inputs.arrays
    patches, wide = len(arrays["patches"]), spec.vision_hidden
    mlps = 3 if spec.kind == "qwen2_5_vl" else 2
    full = len(spec.full_layers) if spec.kind == "qwen2_5_vl" else spec.vision_layers
    seen = full * patches**2
    if "window_rows" in arrays:
        windows, slots = arrays["window_rows"].shape
        seen += (spec.vision_layers - full) * windows * slots**2
    layer = patches * (4 * wide**2 + mlps * wide * 2 * wide)
    mergers = 1 + (len(spec.tapped_layers) if spec.kind == "qwen3_vl" else 0)
    merger = patches // 4 * ((4 * wide) ** 2 + 4 * wide * spec.hidden)
    vision = patches * 6 * spec.patch**2 * wide + spec.vision_layers * layer + 2 * seen * wide
    vision += mergers * merger
    tokens, dim = answer.tokens.prefill, spec.dim
    projections, mlp = 2 * spec.hidden * dim * (spec.heads + spec.kv_heads), 3 * spec.hidden * 2 * spec.hidden
    attention = 2 * tokens**2 * spec.heads * dim
    lifted = (spec.layers - 1) * tokens + 1  # the last layer's is of the last token alone
    head = spec.hidden * engine.manifest.decoder.vocab_size
    decoder = spec.layers * (tokens * projections + attention) + lifted * mlp + head
    assert flops == pytest.approx(2 * (vision + decoder), rel=0.02)


def test_the_manifest_says_where_its_layer_is_from(made: Built) -> None:
    crop = made.manifest.crop
    assert (crop.window, crop.source) == (224, "scaled, not measured")
    assert made.manifest.decoder.position_axes == 3
