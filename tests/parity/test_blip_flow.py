"""InstructBLIP through `ask` against plain passes of transformers: heatmap, box, both answers by token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tests.engines import BLIPS, built_blip
from tests.parity.blip_flow import BlipFlow
from tests.parity.family_checks import PICTURES, QUESTION, check_answer, picture, without_end
from tests.parity.published_flow import search_window
from vicrop_engine import ViCropEngine
from vicrop_engine.vicrop.params import AskKeywords


@dataclass(frozen=True)
class Pair:
    """Plain passes and the engine on one checkpoint."""

    flow: BlipFlow
    engine: ViCropEngine
    layer: int


@pytest.fixture(scope="module", params=BLIPS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    made, threads = built_blip(BLIPS[request.param]), torch.get_num_threads()
    assert made.manifest.instructed is not None
    flow = BlipFlow(made.checkpoint, made.manifest.instructed.layer)
    engine = ViCropEngine.load(made.engine, threads=1)
    torch.set_num_threads(1)  # such small products are slower on more
    yield Pair(flow, engine, made.manifest.crop.layers[0])
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("name", "method"),
    [*((name, "rel-att") for name in PICTURES), ("wide", "grad-att"), ("tall", "grad-att")],
)
def test_ask_gives_what_plain_passes_give(pair: Pair, name: str, method: str) -> None:
    """A picture within one window is its own crop; of others the map and the window are compared too."""
    got = pair.engine.ask(picture(name), QUESTION, method=method, max_new_tokens=8, high_res="off")
    wanted = pair.flow.ask(picture(name), QUESTION, layer=pair.layer, method=method)
    check_answer(pair.engine, name, wanted, got, pair.flow.side)


@pytest.mark.parametrize("method", ["rel-att", "grad-att"])
def test_a_text_to_look_with_is_an_instruction_of_its_own(pair: Pair, method: str) -> None:
    """The answers are to the question, the map is of the other text."""
    image, text = picture("wide"), "the red sign"
    asked: AskKeywords = {"method": method, "localize": text, "max_new_tokens": 8, "high_res": "off"}
    got = pair.engine.ask(image, QUESTION, **asked)
    wanted = pair.flow.ask(image, QUESTION, layer=pair.layer, localize=text, method=method)
    check_answer(pair.engine, "wide", wanted, got, pair.flow.side)
    final = pair.engine.ask(image, QUESTION, first_answer=False, **asked)
    assert (final.crop_box, final.token_ids) == (got.crop_box, got.token_ids)


def test_a_given_box_is_answered_with_its_crop(pair: Pair) -> None:
    image, box = picture("640 x 481"), (100, 50, 300, 222)
    got = pair.engine.ask(image, QUESTION, max_new_tokens=8, box=box)
    assert without_end(pair.engine, got.token_ids) == pair.flow.generate(
        QUESTION, [image, image.crop(box)], 8
    )


@pytest.mark.parametrize("name", ["wide", "1 x 9"])
def test_compat_is_the_published_map_with_its_slice_repaired(pair: Pair, name: str) -> None:
    """And a crop is always looked for, in the published grid."""
    image = picture(name)
    got = pair.engine.ask(image, QUESTION, max_new_tokens=8, compat="mllms-know")
    wanted = pair.flow.published_map(image, QUESTION, pair.layer)
    assert got.heatmap is not None
    assert np.linalg.norm(got.heatmap - wanted) <= 1e-4 * np.linalg.norm(wanted)
    box = search_window(wanted, image.size, pair.flow.side, least=1)
    assert got.crop_box == box
    final = pair.flow.generate(QUESTION, [image, image.crop(box)], 8)
    assert without_end(pair.engine, got.token_ids) == final
