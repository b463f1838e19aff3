"""The engine in compat mode against the published flow: heatmap, box and both answers, token by token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.checkpoints import CheckpointSpec
from tests.engines import GROUPED_224, ONE_KV_HEAD_336, STRETCH_168, built
from tests.parity.published_flow import PublishedAnswer, PublishedFlow
from vicrop_engine import ViCropEngine
from vicrop_engine.vicrop.answer import Answer

QUESTION = "What is written on the red sign?"
NEW_TOKENS = 8
CHECKPOINTS = {
    "168 px, layer -1, stretch": STRETCH_168,
    "224 px, layer -2, grouped-query": GROUPED_224,
    "336 px, layer -2, one KV head": ONE_KV_HEAD_336,
    "168 px, layer -2, padding": CheckpointSpec(seed=14, processor="pad", nested_processor=True),
}
PICTURES = {
    "square": (600, 600),
    "wide": (1200, 300),
    "tall": (250, 900),
    "tiny": (40, 30),
    "large": (1900, 1500),
}


@dataclass(frozen=True)
class Pair:
    """The published flow and the engine on one checkpoint."""

    published: PublishedFlow
    engine: ViCropEngine
    default_layer: int
    top_layer: int


@pytest.fixture(scope="module", params=CHECKPOINTS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both flows on one seeded random checkpoint, with an empty cache directory."""
    made = built(CHECKPOINTS[request.param])
    (layer,) = made.manifest.crop.layers
    top = made.manifest.decoder.num_layers - 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VICROP_HOME", str(tmp_path_factory.mktemp("home")))
        yield Pair(PublishedFlow(made.checkpoint), ViCropEngine.load(made.engine), layer, top)


@cache
def picture(name: str) -> Image.Image:
    """A seeded picture with large shapes and fine detail."""
    width, height = PICTURES[name]
    random = np.random.default_rng([width, height])
    coarse = random.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noise = random.integers(-60, 61, (height, width, 3), dtype=np.int16)
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


def relative_l2(actual: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> float:
    return float(np.linalg.norm(actual.astype(np.float64) - wanted) / np.linalg.norm(wanted))


def check_equal(pair: Pair, answer: Answer, published: PublishedAnswer) -> None:
    """Heatmap within float32 rounding, box equal, both answers equal token by token."""
    assert answer.heatmap is not None
    assert relative_l2(answer.heatmap, published.heatmap) <= 1e-4
    assert answer.crop_box == published.crop_box
    assert without_end(pair, answer.first_token_ids) == published.first_tokens
    assert without_end(pair, answer.token_ids) == published.tokens
    assert (answer.answer_without_crop, answer.answer) == (published.first_answer, published.answer)


def without_end(pair: Pair, ids: tuple[int, ...]) -> list[int]:
    end = pair.published.model.generation_config.eos_token_id
    return list(ids[:-1] if ids and ids[-1] == end else ids)


@pytest.mark.parametrize("name", PICTURES)
def test_compat_equals_the_published_flow(pair: Pair, name: str) -> None:
    published = pair.published.ask(
        picture(name), QUESTION, layer=pair.default_layer, max_new_tokens=NEW_TOKENS
    )
    answer = pair.engine.ask(picture(name), QUESTION, max_new_tokens=NEW_TOKENS, compat="mllms-know")
    assert answer.layers == (pair.default_layer,)
    check_equal(pair, answer, published)


def test_another_layer_and_question_equal_the_published_flow(pair: Pair) -> None:
    question = "How many people are there\nin the picture (roughly), and why – ünïcode?"
    published = pair.published.ask(picture("wide"), question, layer=pair.top_layer, max_new_tokens=NEW_TOKENS)
    answer = pair.engine.ask(
        picture("wide"), question, layers=pair.top_layer, max_new_tokens=NEW_TOKENS, compat="mllms-know"
    )
    check_equal(pair, answer, published)


def test_the_comparison_can_tell_things_apart(pair: Pair) -> None:
    """Boxes and answers differ between pictures and the crop changes answers: equality means something."""
    asked = [pair.engine.ask(picture(name), QUESTION, max_new_tokens=NEW_TOKENS) for name in PICTURES]
    assert len({answer.crop_box for answer in asked}) == len(PICTURES)
    assert len({answer.first_token_ids for answer in asked}) > 1
    assert any(answer.token_ids != answer.first_token_ids for answer in asked)
