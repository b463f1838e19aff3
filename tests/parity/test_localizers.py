"""Localizers beside rel-att and grad-att against plain passes of transformers: map, box, answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.engines import QWENS, SMOLVLMS, STRETCH_168, Built, built, built_qwen, built_smolvlm
from tests.parity.family_checks import QUESTION, picture, without_end
from tests.parity.plain_localizers import (
    Maps,
    PlainLlava,
    PlainModel,
    PlainQwen,
    PlainSmolVLM,
    carve_cells,
    carve_map,
    carved,
    floored_ratio,
    target_map,
)
from tests.parity.published_flow import search_window
from vicrop_engine import Answer, ViCropEngine
from vicrop_export.checks.parity import relative_l2

PLAIN: dict[str, tuple[Callable[[Path], PlainModel], Callable[[], Built]]] = {
    "llava, 168 px": (PlainLlava, lambda: built(STRETCH_168)),
    "smolvlm, six layers": (PlainSmolVLM, lambda: built_smolvlm(SMOLVLMS["tied, sharded, six layers"])),
    "qwen2.5, grouped heads": (PlainQwen, lambda: built_qwen(QWENS["qwen2.5, grouped heads"])),
}


@dataclass(frozen=True)
class Pair:
    """Plain passes and the engine on one checkpoint."""

    plain: PlainModel
    engine: ViCropEngine


@pytest.fixture(scope="module", params=PLAIN)
def pair(request: pytest.FixtureRequest) -> Pair:
    plain, build = PLAIN[request.param]
    made = build()
    return Pair(plain(made.checkpoint), ViCropEngine.load(made.engine, threads=1))


def check(pair: Pair, name: str, heatmap: Maps, got: Answer) -> None:
    """Map, window and the answer with the crop, token by token."""
    assert got.heatmap is not None
    assert got.heatmap.shape == heatmap.shape
    assert relative_l2(got.heatmap, heatmap) <= 1e-4
    image = picture(name)
    box = search_window(heatmap.astype(np.float32), image.size, pair.plain.window, least=1)
    assert got.crop_box == box
    assert without_end(pair.engine, got.token_ids) == pair.plain.answer(QUESTION, [image, image.crop(box)])


@pytest.mark.parametrize("name", ["wide", "640 x 481"])
def test_the_divisor_is_held_to_its_floor(pair: Pair, name: str) -> None:
    wanted = floored_ratio(pair.plain, QUESTION, picture(name), (1, 2), 0.9)
    settings = {"layers": "1-2", "high_res": "off", "max_new_tokens": 8}
    got = pair.engine.ask(picture(name), QUESTION, divisor_floor=0.9, **settings)
    check(pair, name, wanted, got)
    without = pair.engine.ask(picture(name), QUESTION, **settings)
    assert without.heatmap is not None
    assert relative_l2(without.heatmap, wanted) > 1e-3, "the floor has changed the map"


@pytest.mark.parametrize("name", ["wide", "640 x 481"])
@pytest.mark.parametrize("target", ["red sign", "people in the picture"])
def test_the_target_s_last_token_looks(pair: Pair, name: str, target: str) -> None:
    """The named one, and the noun phrase of the question."""
    given = None if target in QUESTION else target
    wanted = target_map(pair.plain, target, picture(name), (1, 2))
    got = pair.engine.ask(
        picture(name),
        QUESTION,
        method="target",
        target=given,
        layers="1-2",
        high_res="off",
        max_new_tokens=8,
    )
    check(pair, name, wanted, got)
    assert (got.target, got.target_from) == (target, "given" if given else "noun phrase")


def test_the_model_names_the_target_where_the_words_do_not(pair: Pair) -> None:
    """Asked once, by the same words; what it says is looked for."""
    question, image = "What does it say?", picture("640 x 481")
    asked = f"Which object in the image is this question about: {question}"
    said = pair.engine.model.prompts.decode(pair.plain.answer(asked, [image], 12))
    got = pair.engine.ask(image, question, method="target", layers=2, high_res="off", max_new_tokens=1)
    assert got.target_from in ("model", "question")
    assert got.target is not None
    assert got.target == ("What does it say" if got.target_from == "question" else got.target)
    if got.target_from == "model":
        assert got.target in said
    assert got.heatmap is not None
    assert relative_l2(got.heatmap, target_map(pair.plain, got.target, image, (2,))) <= 1e-4


@pytest.mark.parametrize("name", ["wide", "640 x 481", "tall"])
def test_regions_are_carved_out(pair: Pair, name: str) -> None:
    """Map, box, and the answer with the crop that is black between the regions, at the layers of its own."""
    image, depth = picture(name), pair.engine.manifest.decoder.num_layers
    layers = sorted({(2 * layer + 1) * depth // 64 for layer in range(20, 26)})
    wanted = carve_map(pair.plain, QUESTION, image, layers)
    got = pair.engine.ask(image, QUESTION, method="carve", high_res="off", max_new_tokens=8)
    assert got.layers == tuple(layers)
    assert got.heatmap is not None
    assert got.heatmap.shape == wanted.shape
    assert relative_l2(got.heatmap, wanted) <= 1e-4
    crop, box = carved(image, carve_cells(wanted))
    assert got.crop_box == box
    assert without_end(pair.engine, got.token_ids) == pair.plain.answer(QUESTION, [image, crop])
    shown = np.zeros(image.size[::-1], bool)
    for x0, y0, x1, y1 in got.crop_parts:
        shown[y0:y1, x0:x1] = True
    seen = np.where(shown[..., None], np.asarray(image), 0)[box[1] : box[3], box[0] : box[2]]
    np.testing.assert_array_equal(seen, np.asarray(crop))
