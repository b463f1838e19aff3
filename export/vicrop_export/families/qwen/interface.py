"""The interface of a vision graph that takes a picture's own arrays, and a picture to compare it on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vicrop_engine.families.qwen.tables import patch_positions, position_taps, windows
from vicrop_export.families.qwen.facts import CHANNELS, FRAMES, MERGED
from vicrop_export.onnx_files.export import GraphInterface
from vicrop_export.ops.small import FULL_ATTENTION, Translations, fused_full_attention
from vicrop_export.probe import Picture

ROWS, COLS = 6, 8  # cells of the picture; with windows of four some are not full
PATCHES_AXIS, WINDOWS_AXIS, TOKENS_AXIS = "patches", "windows", "tokens"
AXES = {
    "patches": {0: PATCHES_AXIS},
    "patch_positions": {0: PATCHES_AXIS},
    "window_rows": {0: WINDOWS_AXIS},
    "patch_slots": {0: PATCHES_AXIS},
    "taps": {0: PATCHES_AXIS},
    "tap_weights": {0: PATCHES_AXIS},
}


def noise_picture(patch: int, window: int, table: int, rows: int = ROWS, cols: int = COLS) -> Picture:
    """Of rows x cols cells for patches of `patch` pixels, with tables for windows and positions if not 0."""
    shape = rows * cols * MERGED**2, CHANNELS * FRAMES * patch**2
    arrays: dict[str, NDArray[Any]] = {
        "patches": np.random.default_rng(0).standard_normal(shape, np.float32),
        "patch_positions": patch_positions(rows, cols),
    }
    if window:
        arrays["window_rows"], arrays["patch_slots"] = windows(rows, cols, window)
    if table:
        arrays["taps"], arrays["tap_weights"] = position_taps(rows, cols, table)
    y, x = np.divmod(np.arange(rows * cols), cols)
    return Picture(arrays, rows * cols, np.stack((np.zeros_like(y), y, x)))


def picture_axes(cells: int, window: int) -> dict[str, tuple[int, int, int]]:
    """Least, usual and most size of each axis, of pictures of at most so many cells; a square is usual.

    A picture one cell high has the most windows.
    """
    patches = MERGED**2
    axes = {PATCHES_AXIS: (patches, patches * cells, patches * cells)}
    if window:
        side = -(-math.isqrt(cells) // window)
        axes[WINDOWS_AXIS] = (1, side**2, -(-cells // window))
    return axes


def grid_of(patch_positions: torch.Tensor) -> torch.Tensor:
    """What transformers is told of the picture: frames, rows and columns of patches, [1, 3]."""
    rows, cols = (patch_positions.max(0).values + 1).tolist()
    return torch.tensor([[1, rows, cols]])


def picture_interface(picture: Picture, in_place: bool) -> GraphInterface:
    """Of a graph from the picture's arrays, by name, to `image_embeds` [1 + added, tokens, hidden].

    On targets that work `in_place` attention of all patches is ONNX Runtime's own, which holds no score.
    """
    arguments = tuple(torch.from_numpy(array) for array in picture.arrays.values())
    names = list(picture.arrays)
    fused: Translations = {FULL_ATTENTION: fused_full_attention}
    return GraphInterface(
        arguments=arguments,
        inputs=names,
        outputs=["image_embeds"],
        axes={name: AXES[name] for name in names},
        output_axes={"image_embeds": {1: TOKENS_AXIS}},
        translations=fused if in_place else {},
    )
