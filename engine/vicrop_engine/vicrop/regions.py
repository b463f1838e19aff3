"""From a heatmap to the regions of a picture that are worth keeping: CARVE's rules (arXiv 2509.06461).

Knows grids and pixels; nothing of models or prompts.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from vicrop_engine.arrays import Heatmap
from vicrop_engine.images.geometry import Box, Grid

SHARE = 5  # one cell in so many is kept, and one region, but LEAST regions if there are as many
LEAST = 3
Cells = npt.NDArray[np.bool_]  # [rows, cols]
Cell = tuple[int, int]


def kept_cells(heatmap: Heatmap, grid: Grid) -> Cells:
    """Which cells [rows, cols] to keep of a finite heatmap lying on the picture as `grid` says.

    Of the cells that touch the picture the fifth with the largest values, of equal ones those that come
    first; of the regions that these make, whose cells meet at a side or a corner, the fifth with the largest
    sums, three if there are as many.
    """
    rows, cols = slice(grid.first_row, grid.last_row), slice(grid.first_col, grid.last_col)
    inside = heatmap[rows, cols]
    largest = np.argsort(-inside, axis=None, kind="stable")[: math.ceil(inside.size / SHARE)]
    cells = [divmod(int(at), inside.shape[1]) for at in largest]
    regions = connected(set(cells))
    sums = [math.fsum(float(inside[cell]) for cell in region) for region in regions]
    order = sorted(range(len(regions)), key=lambda number: -sums[number])
    kept = np.zeros(heatmap.shape, np.bool_)
    for number in order[: max(LEAST, math.ceil(len(regions) / SHARE))]:
        for row, col in regions[number]:
            kept[grid.first_row + row, grid.first_col + col] = True
    return kept


def connected(cells: set[Cell]) -> list[list[Cell]]:
    """The regions that cells (row, col) make, in the order of their first cells, row by row."""
    left, regions = set(cells), []
    for cell in sorted(cells):
        if cell not in left:
            continue
        left.discard(cell)
        region = [cell]
        for row, col in region:  # which grows on the way
            around = {(row + down, col + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= around
            region += sorted(around)
        regions.append(region)
    return regions


def boxes_of(kept: Cells, grid: Grid, size: tuple[int, int]) -> tuple[Box, ...]:
    """Boxes that cover the kept cells, one for each stretch of them in a row, inside a picture of `size`."""
    found = []
    for row in np.flatnonzero(kept.any(axis=1)).tolist():
        edges = np.flatnonzero(np.diff(np.pad(kept[row].astype(np.int8), 1))).tolist()
        y0, y1 = _covering(grid.top, grid.cell_height, row, row + 1, size[1])
        for first, last in zip(edges[::2], edges[1::2], strict=True):
            x0, x1 = _covering(grid.left, grid.cell_width, first, last, size[0])
            found.append((x0, y0, x1, y1))
    return tuple(found)


def around(boxes: tuple[Box, ...]) -> Box:
    """The smallest box that holds all of these."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _covering(origin: float, cell: float, first: int, last: int, length: int) -> tuple[int, int]:
    """The whole pixels that cells touch, at least one; a millionth of a pixel is rounding."""
    start = min(max(math.floor(origin + first * cell + 1e-6), 0), length - 1)
    return start, min(max(math.ceil(origin + last * cell - 1e-6), start + 1), length)
