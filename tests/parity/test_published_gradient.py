"""grad-att in compat mode against autograd on transformers: heatmaps and boxes, and both answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from tests.checkpoints import CheckpointSpec
from tests.engines import built
from tests.parity.published_flow import PublishedFlow, one_image_prompt, search_window
from tests.parity.published_gradient import gradient_heatmaps
from tests.parity.published_high_res import cut
from tests.parity.test_high_res import detailed
from tests.parity.test_published_flow import CHECKPOINTS, NEW_TOKENS, PICTURES, QUESTION, picture
from vicrop_engine import ViCropEngine
from vicrop_engine.counters import Counters
from vicrop_engine.vicrop.answer import Answer
from vicrop_export.checks.parity import relative_l2

OTHER = "How many people are there?"
MODELS = {
    name: CHECKPOINTS[name] for name in ("224 px, layer -2, grouped-query", "336 px, layer -2, one KV head")
} | {
    "224 px, multi-head, biases": CheckpointSpec(
        seed=15, image_size=224, heads=4, kv_heads=4, biases=True, layers=5
    )
}


@dataclass(frozen=True)
class Pair:
    """The published flow and the engine on one checkpoint; the heatmap layer, and how many there are."""

    published: PublishedFlow
    engine: ViCropEngine
    layer: int
    num_layers: int


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both flows on one seeded random checkpoint, with an empty cache directory."""
    made = built(MODELS[request.param])
    (layer,) = made.manifest.crop.layers
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VICROP_HOME", str(tmp_path_factory.mktemp("home")))
        engine = ViCropEngine.load(made.engine)
        yield Pair(PublishedFlow(made.checkpoint), engine, layer, made.manifest.decoder.num_layers)


def check(pair: Pair, name: str, *, asked: str, looked_with: str, layers: range) -> tuple[Answer, Counters]:
    """Heatmap and box of the mean over `layers`; the answer and what it took."""
    image = picture(name)
    wanted = gradient_heatmaps(pair.published, image, looked_with)[layers].mean(axis=0)
    window = pair.published.model.config.vision_config.image_size
    before = pair.engine.counters
    answer = pair.engine.ask(
        image,
        asked,
        method="grad-att",
        layers=list(layers),
        localize=None if looked_with == asked else looked_with,
        max_new_tokens=NEW_TOKENS,
        compat="mllms-know",
    )
    assert answer.heatmap is not None
    assert relative_l2(answer.heatmap, wanted) <= 1e-4
    assert answer.crop_box == search_window(wanted, image.size, window)
    assert (answer.method, answer.layers) == ("grad-att", tuple(layers))
    after = pair.engine.counters
    return answer, Counters(**{key: value - vars(before)[key] for key, value in vars(after).items()})


@pytest.mark.parametrize("name", PICTURES)
def test_compat_equals_autograd(pair: Pair, name: str) -> None:
    layers = range(pair.layer, pair.layer + 1)
    _, took = check(pair, name, asked=QUESTION, looked_with=QUESTION, layers=layers)
    assert (took.gradient_passes, took.general_prefills, took.general_hits) == (1, 0, 0)
    assert took.lower_passes == took.upper_passes == 2 + took.decode_steps // 2


def test_both_answers_and_looking_with_another_question_shares_the_pass(pair: Pair) -> None:
    """The other prompt stands behind the first one's rows, which the first answer writes over."""
    layers = range(pair.layer, pair.layer + 1)
    answer, took = check(pair, "large", asked=QUESTION, looked_with=OTHER, layers=layers)
    assert took.lower_passes == took.upper_passes == 2 + took.decode_steps // 2
    assert answer.crop_box is not None
    pictures, prompt = [picture("large")], one_image_prompt(QUESTION)
    for ids in (answer.first_token_ids, answer.token_ids):
        tokens = pair.published.generate(prompt, pictures, NEW_TOKENS)
        end = pair.published.model.generation_config.eos_token_id
        assert list(ids[:-1] if ids[-1] == end else ids) == tokens
        pictures, prompt = [*pictures, pictures[0].crop(answer.crop_box)], f"<image>{prompt}"


def test_the_mean_over_all_layers_from_the_lowest_on(pair: Pair) -> None:
    """Up to the last, whose attention the loss reads through the head alone."""
    check(pair, "wide", asked=OTHER, looked_with=OTHER, layers=range(pair.layer, pair.num_layers))


def test_the_comparison_can_tell_things_apart(pair: Pair) -> None:
    """Maps differ between questions, layers and from attention itself: equality means something."""
    one, other = (gradient_heatmaps(pair.published, picture("wide"), asked) for asked in (QUESTION, OTHER))
    plain = pair.published.attention(one_image_prompt(QUESTION), picture("wide"), pair.layer)
    assert relative_l2(one[pair.layer], other[pair.layer]) > 0.1
    assert relative_l2(one[pair.layer] / one[pair.layer].sum(), plain / plain.sum()) > 0.1
    assert relative_l2(one[pair.layer], one[-1]) > 0.1
    assert np.isfinite(one).all()


@pytest.mark.parametrize("size", [(1100, 1100), (2101, 700), (1100, 2100)], ids=str)
def test_tiles_in_compat_are_the_published_ones(pair: Pair, size: tuple[int, int]) -> None:
    """Each tile's loss is its own; the maps are put together as they are."""
    image = detailed(size)
    maps = [
        [gradient_heatmaps(pair.published, tile, QUESTION)[pair.layer] for tile in row] for row in cut(image)
    ]
    wanted = np.block(maps).astype(np.float32)
    window = pair.published.model.config.vision_config.image_size
    found = pair.engine.locate(image, QUESTION, method="grad-att", high_res="on", compat="mllms-know")
    assert found.heatmap is not None
    assert len(found.tiles) == sum(map(len, maps)) > 1
    assert relative_l2(found.heatmap, wanted) <= 1e-4
    assert found.box == search_window(wanted, image.size, window)
