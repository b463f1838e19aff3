"""What the heatmap operator computes, in plain float64 loops: the truth the others are held to.

The ratio and the search are those of arXiv 2502.17422 as published; the floor is ours. Knows nothing of
models, pixels or speed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

FLOOR = 1e-36
"""General attention below this counts as this much.

A question's attention sums to at most one, so no sum of ratios exceeds 1e36: the map and every window sum
stay finite in float32, and attention that a float32 softmax can tell from zero is left alone.
"""

Rows = Sequence[Sequence[Sequence[float]]]


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


def best_window(grid: Sequence[Sequence[float]], windows: Sequence[tuple[int, int]]) -> BestWindow:
    """The window whose sum stands out most from its neighbours', per cell.

    `grid` is [rows, cols]; `windows` are (height, width) in cells, none of them the whole grid. Of each size
    the largest sum wins (the first in column order), scored by (sum - mean of the up to four sums one cell
    away) / cells; the first best score wins.
    """
    best, best_score = BestWindow(0, 0, 0), -math.inf
    for index, (height, width) in enumerate(windows):
        rows, cols = len(grid) - height + 1, len(grid[0]) - width + 1
        sums = [[_window_sum(grid, row, col, height, width) for col in range(cols)] for row in range(rows)]
        top, row, col = -math.inf, 0, 0
        for x in range(cols):
            for y in range(rows):
                if sums[y][x] > top:
                    top, row, col = sums[y][x], y, x
        beside = [
            sums[y][x]
            for y, x in ((row, col - 1), (row, col + 1), (row - 1, col), (row + 1, col))
            if 0 <= y < rows and 0 <= x < cols
        ]
        score = (top - sum(beside) / len(beside)) / (height * width)
        if score > best_score:
            best, best_score = BestWindow(index, row, col), score
    return best


def _window_sum(grid: Sequence[Sequence[float]], row: int, col: int, height: int, width: int) -> float:
    return sum(grid[y][x] for y in range(row, row + height) for x in range(col, col + width))
