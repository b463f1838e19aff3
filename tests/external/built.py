"""The localizer models of the tests, built once per test run however many tests ask for one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from tests.external import checkpoints
from vicrop_engine.models import ToolName
from vicrop_export.external.build import build_tool

WRITERS: dict[ToolName, Callable[[Path], Path]] = {
    "clip": checkpoints.write_clip,
    "yolo": checkpoints.write_yolos,
    "sam": checkpoints.write_sam,
}
SIZES = ((900, 500), (300, 700), (64, 61), (9, 7))


@cache
def checkpoint(kind: ToolName) -> Path:
    """A seeded checkpoint; never change it, copy it."""
    return WRITERS[kind](Path(_folder().name) / f"{kind}-checkpoint")


@cache
def tool(kind: ToolName) -> Path:
    """The directory built from `checkpoint(kind)`; never change it, copy it."""
    directory = Path(_folder().name) / kind
    build_tool(kind, checkpoint(kind), directory)
    return directory


def picture(size: tuple[int, int]) -> Image.Image:
    """A seeded picture of this width and height with detail at several scales."""
    coarse, fine = (
        np.random.default_rng([*size, cells]).integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        for cells in (5, 40)
    )
    layers = [Image.fromarray(values).resize(size, Image.Resampling.BICUBIC) for values in (coarse, fine)]
    return Image.blend(*layers, 0.4)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="vicrop-tools-")
