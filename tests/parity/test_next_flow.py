"""LLaVA-NeXT through `ask` against plain passes of transformers: heatmap, box, both answers by token."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.engines import NEXTS, built_next
from tests.parity.family_checks import PICTURES, QUESTION, check_answer, picture, without_end
from tests.parity.next_flow import NextFlow
from vicrop_engine import ViCropEngine

SMALL = "vicuna, one KV head, a small context"


@dataclass(frozen=True)
class Pair:
    """Plain passes and the engine on one checkpoint."""

    flow: NextFlow
    engine: ViCropEngine
    layer: int


@pytest.fixture(scope="module", params=NEXTS)
def pair(request: pytest.FixtureRequest) -> Pair:
    made = built_next(NEXTS[request.param])
    engine = ViCropEngine.load(made.engine, threads=1)
    return Pair(NextFlow(made.checkpoint), engine, made.manifest.crop.layers[0])


@pytest.mark.parametrize(
    ("name", "method"),
    [*((name, "rel-att") for name in PICTURES), ("wide", "grad-att"), ("tall", "grad-att")],
)
def test_ask_gives_what_plain_passes_give(pair: Pair, name: str, method: str) -> None:
    """A picture within one window is its own crop; of others the map and the window are compared too."""
    got = pair.engine.ask(picture(name), QUESTION, method=method, max_new_tokens=8, high_res="off")
    wanted = pair.flow.ask(
        picture(name), QUESTION, layer=pair.layer, method=method, crop_one=bool(got.notices)
    )
    check_answer(pair.engine, name, wanted, got, pair.flow.side)


@pytest.mark.parametrize(("picture_tiles", "crop_tiles"), [("one", "one"), ("all", "one"), ("one", "all")])
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
    assert not got.notices


def test_a_crop_that_does_not_fit_the_context_is_its_base_alone() -> None:
    """Of a square picture, with all tiles; of one that takes fewer tokens the crop is as ever."""
    made = built_next(NEXTS[SMALL])
    engine = ViCropEngine.load(made.engine, threads=1)
    for crop_tiles in (None, "all"):
        got = engine.ask(picture("square"), QUESTION, max_new_tokens=8, crop_tiles=crop_tiles)
        assert got.notices == (
            "the crop is seen as one input, in 17 tokens: 36 beside the picture's 88 do not fit the model's "
            "context of 250",
        )
        wanted = NextFlow(made.checkpoint).ask(
            picture("square"), QUESTION, layer=made.manifest.crop.layers[0], crop_one=True
        )
        assert got.crop_box == wanted.crop_box
        assert without_end(engine, got.token_ids) == wanted.tokens
    wide = engine.ask(picture("wide"), QUESTION, max_new_tokens=8)
    assert not wide.notices
    assert wide.tokens.crop > got.tokens.crop
