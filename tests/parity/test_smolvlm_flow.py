"""SmolVLM through `ask` against plain passes of transformers: heatmap, box, both answers token by token."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.engines import SMOLVLMS, built_smolvlm
from tests.parity.family_checks import PICTURES, QUESTION, check_answer, picture, without_end
from tests.parity.smolvlm_flow import SmolVLMFlow
from vicrop_engine import ViCropEngine


@dataclass(frozen=True)
class Pair:
    """Plain passes and the engine on one checkpoint."""

    flow: SmolVLMFlow
    engine: ViCropEngine
    layer: int


@pytest.fixture(scope="module", params=SMOLVLMS)
def pair(request: pytest.FixtureRequest) -> Pair:
    made = built_smolvlm(SMOLVLMS[request.param])
    engine = ViCropEngine.load(made.engine, threads=1)
    return Pair(SmolVLMFlow(made.checkpoint), engine, made.manifest.crop.layers[0])


@pytest.mark.parametrize(
    ("name", "method"),
    [*((name, "rel-att") for name in PICTURES), ("wide", "grad-att"), ("4000 x 300", "grad-att")],
)
def test_ask_gives_what_plain_passes_give(pair: Pair, name: str, method: str) -> None:
    wanted = pair.flow.ask(picture(name), QUESTION, layer=pair.layer, method=method)
    got = pair.engine.ask(picture(name), QUESTION, method=method, max_new_tokens=8, high_res="off")
    check_answer(pair.engine, name, wanted, got, pair.flow.side)


@pytest.mark.parametrize(("picture_tiles", "crop_tiles"), [("one", "one"), ("all", "all"), ("one", "all")])
def test_tiles_by_setting(pair: Pair, picture_tiles: str, crop_tiles: str) -> None:
    wanted = pair.flow.ask(
        picture("640 x 481"),
        QUESTION,
        layer=pair.layer,
        picture_one=picture_tiles == "one",
        crop_one=crop_tiles == "one",
    )
    got = pair.engine.ask(
        picture("640 x 481"),
        QUESTION,
        max_new_tokens=8,
        picture_tiles=picture_tiles,
        crop_tiles=crop_tiles,
    )
    assert got.crop_box == wanted.crop_box
    assert without_end(pair.engine, got.first_token_ids) == wanted.first_tokens
    assert without_end(pair.engine, got.token_ids) == wanted.tokens
