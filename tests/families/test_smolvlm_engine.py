"""An engine of SmolVLM's family does what every engine does, or refuses it with a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.engines import SMOLVLMS, Built, built_smolvlm
from tests.families.common import (
    FEW,
    OTHER,
    QUESTION,
    check_a_batch_and_the_scheduler,
    check_nothing_is_computed_twice,
)
from vicrop_engine import ViCropEngine
from vicrop_engine.engine_dir.flops import num_flops
from vicrop_engine.errors import QuestionError, SettingError
from vicrop_engine.images.seen import Way


@pytest.fixture(scope="module")
def made() -> Built:
    return built_smolvlm(next(iter(SMOLVLMS.values())))


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
    items = [(image, QUESTION), (image.crop((0, 0, 300, 400)), OTHER), (image, OTHER)]
    assert not any(answer.notices for answer in check_a_batch_and_the_scheduler(made, items))


@pytest.mark.parametrize("method", ["rel-att", "grad-att"])
def test_high_res_looks_at_tiles_of_its_own(engine: ViCropEngine, method: str) -> None:
    random = np.random.default_rng(2)
    large = Image.fromarray(random.integers(0, 256, (120, 160, 3), dtype=np.uint8)).resize((1500, 1100))
    answer = engine.ask(large, QUESTION, method=method, high_res="on", **FEW)
    assert len(answer.tiles) == 4
    vision = engine.manifest.vision
    assert answer.heatmap is not None
    assert answer.heatmap.shape == (2 * vision.rows, 2 * vision.cols)
    assert engine.ask(large, QUESTION, method=method, **FEW).high_res, "more than twice what it sees"


def test_what_it_does_not_have_is_refused(engine: ViCropEngine, image: Image.Image) -> None:
    with pytest.raises(SettingError, match="'pure-grad' goes back to the pixels"):
        engine.ask(image, QUESTION, method="pure-grad")
    with pytest.raises(SettingError, match="the published code has nothing for"):
        engine.ask(image, QUESTION, compat="mllms-know")
    with pytest.raises(SettingError, match="crop_tokens 3 and crop_tiles 'all'"):
        engine.ask(image, QUESTION, crop_tokens=3, crop_tiles="all")
    with pytest.raises(QuestionError, match="<row_1_col_1>"):
        engine.ask(image, "what is in <row_1_col_1>?")


def test_fewer_tokens_of_the_crop(engine: ViCropEngine, image: Image.Image) -> None:
    whole, fewer = (engine.ask(image, QUESTION, crop_tokens=tokens, **FEW) for tokens in ("all", 5))
    cells = engine.manifest.vision.image_tokens
    assert whole.tokens.crop - fewer.tokens.crop == cells - 5


def test_the_manifest_says_which_family_it_is(made: Built) -> None:
    document = json.loads(Path(made.engine, "manifest.json").read_text(encoding="utf-8"))
    assert document["family"]["name"] == "smolvlm"
    assert document["crop"]["source"] == "scaled, not measured"


def test_operations_are_those_of_the_formula(engine: ViCropEngine, image: Image.Image) -> None:
    """By the sizes of the checkpoint: two for each multiply-add of a plain answer of one token."""
    spec = next(iter(SMOLVLMS.values()))
    with engine.tally.watching() as runs:
        answer = engine.ask(image, QUESTION, method="none", max_new_tokens=1)
    counted = engine.manifest.multiply_adds
    assert counted is not None
    flops = sum(num_flops(counted[graph], run.axes) for run in runs for graph in run.graphs)
    tiles, patches = (
        len(engine.model.family.see(image, Way()).inputs.pixels),
        (spec.side // spec.patch_size) ** 2,
    )
    wide, cells = spec.vision_hidden, engine.manifest.vision.image_tokens
    layer = patches * (4 * wide**2 + 2 * wide * 2 * wide) + 2 * patches**2 * wide
    tower = patches * 3 * spec.patch_size**2 * wide + spec.vision_layers * layer
    vision = tiles * (tower + cells * spec.scale**2 * wide * spec.hidden)
    tokens, dim = answer.tokens.prefill, spec.hidden // spec.heads
    projections, mlp = 2 * spec.hidden * dim * (spec.heads + spec.kv_heads), 3 * spec.hidden * 2 * spec.hidden
    attention = 2 * tokens**2 * spec.heads * dim
    mlps = (spec.layers - 1) * tokens + 1  # the last layer's is of the last token alone
    head = spec.hidden * engine.manifest.decoder.vocab_size
    decoder = spec.layers * (tokens * projections + attention) + mlps * mlp + head
    assert flops == pytest.approx(2 * (vision + decoder), rel=0.02)
