"""SmolVLM through `ask` against plain passes of transformers: heatmap, box, both answers token by token."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from PIL import Image

from tests.engines import SMOLVLMS, built_smolvlm
from tests.parity.smolvlm_flow import SmolVLMFlow
from vicrop_engine import ViCropEngine

QUESTION = "What is written on the red sign?"
PICTURES = {
    "square": (600, 600),
    "wide": (900, 260),
    "tall": (230, 700),
    "640 x 481": (640, 481),
    "30 x 500": (30, 500),
    "1 x 9": (1, 9),
    "4000 x 300": (4000, 300),
}


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


@cache
def picture(name: str) -> Image.Image:
    """A seeded picture with large shapes and fine detail."""
    width, height = PICTURES[name]
    random = np.random.default_rng([width, height])
    coarse = random.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noise = random.integers(-60, 61, (height, width, 3), dtype=np.int16)
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


def without_end(engine: ViCropEngine, ids: tuple[int, ...]) -> list[int]:
    """The ids of an answer, its end sign left out."""
    return list(ids[:-1] if ids[-1] in engine.manifest.tokens.eos else ids)


@pytest.mark.parametrize(
    ("name", "method"),
    [*((name, "rel-att") for name in PICTURES), ("wide", "grad-att"), ("4000 x 300", "grad-att")],
)
def test_ask_gives_what_plain_passes_give(pair: Pair, name: str, method: str) -> None:
    """A picture within one window is its own crop; of others the map and the window are compared too."""
    wanted = pair.flow.ask(picture(name), QUESTION, layer=pair.layer, method=method)
    got = pair.engine.ask(picture(name), QUESTION, method=method, max_new_tokens=8, high_res="off")
    if max(PICTURES[name]) > pair.flow.side:
        assert got.heatmap is not None
        assert got.heatmap.shape == wanted.heatmap.shape
        distance = np.linalg.norm(got.heatmap.astype(np.float64) - wanted.heatmap)
        assert distance <= 1e-4 * np.linalg.norm(wanted.heatmap)
        assert got.crop_box == wanted.crop_box
        assert without_end(pair.engine, got.token_ids) == wanted.tokens
    assert without_end(pair.engine, got.first_token_ids) == wanted.first_tokens


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
