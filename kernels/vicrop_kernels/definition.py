"""What the heatmap operator computes, in plain float64 loops: the truth the others are held to.

The ratio and the search are those of arXiv 2502.17422 as published; the floor is ours, and so is that
`locate` adds windows exactly. Knows nothing of models or speed.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from vicrop_kernels.arguments import Arguments, PictureGrid
from vicrop_kernels.placement import Box, crop_box, window_sizes

FLOOR = 1e-36
"""General attention below this counts as this much.

A question's attention sums to at most one, so no sum of ratios exceeds 1e36: the map and every window sum
stay finite in float32, and attention that a float32 softmax can tell from zero is left alone.
"""

UNIT_BITS = 40
"""A cell counts as so many whole units, of which the largest cell takes this many bits.

Sums of whole numbers are the same in any order, so equal windows are equal wherever they lie. float32 has 24
bits: cells down to 2**-16 of the largest count exactly, from smaller ones less than a unit is dropped.
"""

LEAST_EXPONENT = -125  # of the largest cell: that of float32's smallest normal numbers

Rows = Sequence[Sequence[Sequence[float]]]
Grid = Sequence[Sequence[float]]


@dataclass(frozen=True)
class BestWindow:
    """Index of the winning window size, and the row and column of its top left cell."""

    index: int
    row: int
    col: int


def heatmap(question: Rows, general: Rows, weights: Sequence[float]) -> list[float]:
    """Relative attention of one picture: a value per patch.

    `question` and `general` are attention rows [layers, heads, patches]; per layer the mean over heads of the
    question's is divided by that of the general prompt's (at least FLOOR), and the layers are averaged with
    `weights` [layers], which sum to one.
    """
    patches = len(question[0][0])
    result = [0.0] * patches
    for layer, weight in enumerate(weights):
        for patch in range(patches):
            asked = sum(head[patch] for head in question[layer]) / len(question[layer])
            usual = sum(head[patch] for head in general[layer]) / len(general[layer])
            result[patch] += weight * (asked / max(usual, FLOOR))
    return result


def gradient_heatmap(attention: Rows, gradient: Rows, weights: Sequence[float]) -> list[float]:
    """Attention where more of it would help the answer: a value per patch.

    `attention` and the loss's `gradient` at it are [layers, heads, patches]; per layer the mean over heads of
    attention times the gradient, where that is above zero, and the layers are averaged with `weights`
    [layers], which sum to one.
    """
    patches = len(attention[0][0])
    result = [0.0] * patches
    for layer, weight in enumerate(weights):
        heads = list(zip(attention[layer], gradient[layer], strict=True))
        for patch in range(patches):
            helpful = sum(looked[patch] * max(slope[patch], 0.0) for looked, slope in heads)
            result[patch] += weight * (helpful / len(heads))
    return result


def locate(
    first: Sequence[Rows], second: Sequence[Rows], arguments: Arguments
) -> list[tuple[list[list[float]], Box]]:
    """The heatmap [rows, cols] and the crop box (x0, y0, x1, y1) of every picture.

    `first` and `second` are rows [maps, layers, heads, patches]: the question's and the general prompt's, or
    in mode "gradient" attention and gradient; a picture's tiles follow one another, row by row. The heatmap
    is float64; what is searched is the heatmap rounded to float32.
    """
    layers = len(first[0])
    weights = arguments.weights or [1.0 / layers] * layers
    make = heatmap if arguments.mode == "relative" else gradient_heatmap
    maps = [make(one, other, weights) for one, other in zip(first, second, strict=True)]
    located = []
    for number, picture in enumerate(arguments.pictures):
        tiles = maps[number * arguments.maps_per_picture : (number + 1) * arguments.maps_per_picture]
        grid = _put_together(tiles, arguments, picture)
        rounded = [[_float32(value) for value in row] for row in grid]
        located.append((grid, find_box(rounded, arguments, picture)))
    return located


def find_box(grid: Grid, arguments: Arguments, picture: PictureGrid) -> Box:
    """The crop box of one picture for its heatmap [rows, cols] of float32 values."""
    inside = arguments.inside(picture)
    sizes = window_sizes(picture, inside, arguments.window, arguments.ratios)
    if not sizes:
        return (0, 0, *picture.size)
    searched = [row[inside.first_col : inside.last_col] for row in grid[inside.first_row : inside.last_row]]
    best = exact_window(whole_units(searched), [(size.height, size.width) for size in sizes])
    return crop_box(picture, inside, sizes[best.index], best.row, best.col)


def whole_units(grid: Grid) -> list[list[int]]:
    """The cells in whole units: float32 values times a power of two, less their fractions."""
    largest = max(abs(value) for row in grid for value in row)
    exponent = max(math.frexp(largest)[1], LEAST_EXPONENT) if largest else LEAST_EXPONENT
    return [[int(math.ldexp(value, UNIT_BITS - exponent)) for value in row] for row in grid]


def exact_window(units: Sequence[Sequence[int]], windows: Sequence[tuple[int, int]]) -> BestWindow:
    """`best_window` in whole numbers: sums are exact, and only the score is rounded, once divided."""
    best, best_score = BestWindow(0, 0, 0), -math.inf
    for index, (height, width) in enumerate(windows):
        row, col, top, beside = _largest(units, height, width)
        above = len(beside) * int(top) - int(sum(beside))
        score = float(above) / float(len(beside) * height * width)
        if score > best_score:
            best, best_score = BestWindow(index, row, col), score
    return best


def best_window(grid: Grid, windows: Sequence[tuple[int, int]]) -> BestWindow:
    """The window whose sum stands out most from its neighbours', per cell.

    `grid` is [rows, cols]; `windows` are (height, width) in cells, none of them the whole grid. Of each size
    the largest sum wins (the first in column order), scored by (sum - mean of the up to four sums one cell
    away) / cells; the first best score wins.
    """
    best, best_score = BestWindow(0, 0, 0), -math.inf
    for index, (height, width) in enumerate(windows):
        row, col, top, beside = _largest(grid, height, width)
        score = (top - sum(beside) / len(beside)) / (height * width)
        if score > best_score:
            best, best_score = BestWindow(index, row, col), score
    return best


def _largest(grid: Grid, height: int, width: int) -> tuple[int, int, float, list[float]]:
    """Row, column and sum of the first largest window in column order, and the sums one cell away."""
    rows, cols = len(grid) - height + 1, len(grid[0]) - width + 1
    sums = [[_window_sum(grid, row, col, height, width) for col in range(cols)] for row in range(rows)]
    top, row, col = -math.inf, 0, 0
    for x in range(cols):
        for y in range(rows):
            if sums[y][x] > top:
                top, row, col = sums[y][x], y, x
    places = ((row, col - 1), (row, col + 1), (row - 1, col), (row + 1, col))
    return row, col, top, [sums[y][x] for y, x in places if 0 <= y < rows and 0 <= x < cols]


def _window_sum(grid: Grid, row: int, col: int, height: int, width: int) -> float:
    return sum(grid[y][x] for y in range(row, row + height) for x in range(col, col + width))


def _put_together(
    maps: Sequence[Sequence[float]], arguments: Arguments, picture: PictureGrid
) -> list[list[float]]:
    """One picture's heatmap [rows, cols]: its tiles' cells in their places, zero outside the picture."""
    kept, inside = arguments.kept, arguments.inside(picture)
    grid = [[0.0] * arguments.map_cols for _ in range(arguments.map_rows)]
    for number, values in enumerate(maps):
        places = [
            (row, col)
            for row in range(kept.first_row, kept.last_row)
            for col in range(kept.first_col, kept.last_col)
        ]
        mean = sum(values[row * arguments.cols + col] for row, col in places) / len(places)
        scale = mean if arguments.tiles.over_mean and _float32(mean) > 0 else 1.0
        down, across = divmod(number, arguments.tiles.cols)
        for row, col in places:
            y, x = down * kept.rows + row - kept.first_row, across * kept.cols + col - kept.first_col
            if inside.first_row <= y < inside.last_row and inside.first_col <= x < inside.last_col:
                grid[y][x] = values[row * arguments.cols + col] / scale
    return grid


def _float32(value: float) -> float:
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded
