"""How sure the first pass is of its answer, and how far its heatmap points: what a crop is worth.

Plain arithmetic on the first token's logits and on a heatmap; knows nothing of passes or of what is decided.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from vicrop_engine.crop import Heatmap
from vicrop_engine.geometry import Grid


def doubt(logits: npt.NDArray[np.floating]) -> float:
    """1 less the margin between the probabilities of the two likeliest tokens of `logits` [vocab].

    0 when only one token can come next, 1 when two are equally likely.
    """
    shifted = logits.astype(np.float64) - float(logits.max())
    weights = np.exp(shifted, out=shifted)
    second, first = np.partition(weights, -2)[-2:] / weights.sum()
    return float(1.0 - (first - second))


def focus(heatmap: Heatmap, grid: Grid) -> float:
    """How far a heatmap [rows, cols] is gathered in one of the cells that touch the picture.

    The logarithm of the largest value over their mean, over the logarithm of their number: 0 when all are
    equal, 1 when one cell holds everything.
    """
    inside = heatmap[grid.first_row : grid.last_row, grid.first_col : grid.last_col].astype(np.float64)
    mean, peak = float(inside.mean()), float(inside.max())
    if mean <= 0 or inside.size == 1:
        return 0.0
    return max(0.0, math.log(peak / mean) / math.log(inside.size))
