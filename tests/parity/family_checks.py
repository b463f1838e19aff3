"""Pictures that every family is asked about, and what its answers are held to beside plain passes."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from tests.parity.smolvlm_flow import FlowAnswer
from vicrop_engine import Answer, ViCropEngine

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


def check_answer(
    engine: ViCropEngine, name: str, wanted: FlowAnswer, got: Answer, window: int, *, always: bool = False
) -> None:
    """Heatmap, box and both answers token by token.

    A picture within one window is its own crop, unless a crop is made `always`; of others the map and the
    window are compared too.
    """
    if always or max(PICTURES[name]) > window:
        assert got.heatmap is not None
        assert got.heatmap.shape == wanted.heatmap.shape
        distance = np.linalg.norm(got.heatmap.astype(np.float64) - wanted.heatmap)
        assert distance <= 1e-4 * np.linalg.norm(wanted.heatmap)
        assert got.crop_box == wanted.crop_box
        assert without_end(engine, got.token_ids) == wanted.tokens
    assert without_end(engine, got.first_token_ids) == wanted.first_tokens
