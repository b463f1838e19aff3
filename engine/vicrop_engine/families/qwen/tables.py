"""What the vision graph is told of a picture beside its patches: tables of whole numbers, from sizes alone.

A picture is rows x cols cells of 2 x 2 patches; patches follow each other cell by cell, and row by row within
a cell, as the image processor gives them. What transformers' `vision_utils` computes with loops over a grid.
"""

from __future__ import annotations

import numpy as np

from vicrop_engine.arrays import Floats, Ints

MERGED = 2  # patches a side of a cell
PATCHES = MERGED * MERGED  # of a cell


def patch_positions(rows: int, cols: int) -> Ints:
    """Row and column of each patch, [patches, 2]."""
    inside = np.indices((MERGED, MERGED)).reshape(2, 1, PATCHES)
    cells = np.indices((rows, cols)).reshape(2, -1, 1)
    return (cells * MERGED + inside).reshape(2, -1).T.astype(np.int64, order="C")


def windows(rows: int, cols: int, side: int) -> tuple[Ints, Ints]:
    """Which patches look at each other in windows of `side` cells, and where each patch is among those.

    The first table [windows, slots] holds patches, and their number where a window at the right or lower edge
    has none; the second [patches] the slot of each patch, counted through all windows.
    """
    down, across = -(-rows // side), -(-cols // side)
    none = rows * cols
    padded = np.full((down * side, across * side), none, np.int64)
    padded[:rows, :cols] = np.arange(none).reshape(rows, cols)
    cells = padded.reshape(down, side, across, side).swapaxes(1, 2).reshape(-1, side * side)
    patches = cells[:, :, None] * PATCHES + np.arange(PATCHES)
    window_rows = np.minimum(patches, none * PATCHES).reshape(len(cells), -1)
    slots = np.flatnonzero(window_rows.ravel() < none * PATCHES)
    patch_slots = np.empty(none * PATCHES, np.int64)
    patch_slots[window_rows.ravel()[slots]] = slots
    return window_rows, patch_slots


def position_taps(rows: int, cols: int, side: int) -> tuple[Ints, Floats]:
    """Where each patch lies on a table of side x side positions: four of them, and how much of each.

    Both [patches, 4]. The table's corners lie on the centres of the picture's corner patches; in float32, as
    transformers counts.
    """
    positions = patch_positions(rows, cols)
    row_taps, row_weights = _taps(positions[:, 0], rows * MERGED, side)
    col_taps, col_weights = _taps(positions[:, 1], cols * MERGED, side)
    taps = row_taps[:, :, None] * side + col_taps[:, None]
    weights: Floats = row_weights[:, :, None] * col_weights[:, None]
    return taps.reshape(-1, 4), weights.reshape(-1, 4)


def _taps(index: Ints, number: int, side: int) -> tuple[Ints, Floats]:
    """The two nearest of `side` positions to each of `number` places along one axis, and their weights."""
    place = index.astype(np.float32) * np.float32(side - 1) / np.float32(max(number - 1, 1))
    below = np.floor(place)
    taps = np.minimum(below.astype(np.int64)[:, None] + np.arange(2), side - 1)
    share = place - below
    return taps, np.stack((1 - share, 1 - (1 - share)), axis=1)
