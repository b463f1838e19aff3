"""The exact window search in NumPy, from a heatmap to a crop box: a summed-area table of whole numbers.

Its truth is `definition.find_box`. `numpy_window` is the other search, with sums rounded as published.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from vicrop_kernels.arguments import Arguments, PictureGrid
from vicrop_kernels.definition import LEAST_EXPONENT, UNIT_BITS
from vicrop_kernels.placement import Box, WindowSize, crop_box, window_sizes

Floats = npt.NDArray[np.float32]
Units = npt.NDArray[np.int64]


def find_box(heatmap: Floats, arguments: Arguments, picture: PictureGrid) -> Box:
    """The crop box (x0, y0, x1, y1) for a finite heatmap [rows, cols] of one picture."""
    inside = arguments.inside(picture)
    sizes = window_sizes(picture, inside, arguments.window, arguments.ratios)
    if not sizes:
        return (0, 0, *picture.size)
    searched = heatmap[inside.first_row : inside.last_row, inside.first_col : inside.last_col]
    table = _table(searched)
    best, best_score = (sizes[0], 0, 0), -math.inf
    for size in sizes:
        row, col, score = _largest(table, size)
        if score > best_score:
            best, best_score = (size, row, col), score
    return crop_box(picture, inside, *best)


def _table(grid: Floats) -> Units:
    """Sums of all cells above and to the left, in whole units, by column then row: [cols + 1, rows + 1]."""
    largest = max(float(grid.max()), -float(grid.min()))
    exponent = max(math.frexp(largest)[1], LEAST_EXPONENT) if largest else LEAST_EXPONENT
    scaled = grid.T * np.float64(math.ldexp(1.0, UNIT_BITS - exponent))
    table = np.zeros((grid.shape[1] + 1, grid.shape[0] + 1), np.int64)
    np.cumsum(scaled.astype(np.int64), axis=0, out=table[1:, 1:])
    np.cumsum(table, axis=1, out=table)
    return table


def _largest(table: Units, size: WindowSize) -> tuple[int, int, float]:
    """Row, column and score of the first largest window in column order."""
    height, width = size.height, size.width
    strips = table[width:] - table[:-width]
    sums = strips[:, height:] - strips[:, :-height]  # [x, y]
    cols, rows = sums.shape
    place = int(sums.argmax())
    x, y = divmod(place, rows)
    near = ((x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1))
    beside = [int(sums[a, b]) for a, b in near if 0 <= a < cols and 0 <= b < rows]
    above = len(beside) * int(sums[x, y]) - sum(beside)
    return y, x, float(above) / float(len(beside) * height * width)
