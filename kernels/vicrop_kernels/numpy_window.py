"""The window search in NumPy: a summed-area table finds the candidates, exact sums decide between them.

Its truth is `definition.best_window`; sums are taken in the grid's own type and NumPy's own order, because
ties are settled by the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vicrop_kernels.definition import BestWindow

Values = npt.NDArray[np.floating]


def best_window(grid: Values, windows: Sequence[tuple[int, int]]) -> BestWindow:
    """The window that stands out most; see `definition.best_window` for the rule.

    `grid` is [rows, cols], finite; `windows` are (height, width) in cells, none of them the whole grid.
    """
    table = np.zeros((grid.shape[1] + 1, grid.shape[0] + 1))  # by column, then row
    table[1:, 1:] = grid.T.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    total, unit = float(np.abs(grid).sum(dtype=np.float64)), float(np.finfo(grid.dtype).eps)
    best, best_score = BestWindow(0, 0, 0), -np.inf
    for index, (height, width) in enumerate(windows):
        slack = _slack(total, unit, grid.shape, height, width)
        row, col, top = _largest(grid, table, slack, height, width)
        score = (top - _mean(_neighbours(grid, row, col, height, width))) / (height * width)
        if score > best_score:
            best, best_score = BestWindow(index, row, col), score
    return best


def _largest(
    grid: Values, table: npt.NDArray[np.float64], slack: float, height: int, width: int
) -> tuple[int, int, float]:
    """Row, column and exact sum of the first largest window in column order."""
    strips = table[width:] - table[:-width]
    sums = strips[:, height:] - strips[:, :-height]  # [x, y]
    candidates = np.flatnonzero(sums >= sums.max() - slack)
    places = [divmod(int(place), sums.shape[1]) for place in candidates]
    exact = [_sum(grid, row, col, height, width) for col, row in places]
    top = max(exact)
    col, row = places[exact.index(top)]
    return row, col, top


def _slack(total: float, unit: float, shape: tuple[int, ...], height: int, width: int) -> float:
    """More than two window sums and two table sums can be off by: depth of the additions times the unit."""
    in_windows = (height + width) * unit
    in_table = sum(shape) * float(np.finfo(np.float64).eps)
    return 4.0 * total * (in_windows + in_table)


def _mean(sums: list[float]) -> float:
    """As NumPy takes it of so few; Python's own sum rounds otherwise from 3.12 on."""
    total = 0.0
    for each in sums:
        total += each
    return total / len(sums)


def _sum(grid: Values, row: int, col: int, height: int, width: int) -> float:
    return float(np.add.reduce(grid[row : row + height, col : col + width], axis=None))


def _neighbours(grid: Values, row: int, col: int, height: int, width: int) -> list[float]:
    """Exact sums of the up to four windows one cell away."""
    rows, cols = grid.shape[0] - height + 1, grid.shape[1] - width + 1
    places = ((row, col - 1), (row, col + 1), (row - 1, col), (row + 1, col))
    return [_sum(grid, y, x, height, width) for y, x in places if 0 <= y < rows and 0 <= x < cols]
