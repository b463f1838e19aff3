"""From heatmap to crop box: window sizes in cells, the search, the box around the winner.

The rules are those of arXiv 2502.17422 as published, less its flaws. Knows grids and pixels; nothing of
models, prompts or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vicrop_engine.geometry import Grid
from vicrop_engine.image import Box
from vicrop_kernels.numpy_window import best_window

Heatmap = npt.NDArray[np.float32]


def fits_window(image_size: tuple[int, int], window: int) -> bool:
    """Whether both sides of the picture are within one window, so that the crop is the whole picture."""
    return max(image_size) <= window


def find_box(
    heatmap: Heatmap, grid: Grid, image_size: tuple[int, int], window: int, ratios: Sequence[float]
) -> Box:
    """The crop box (x0, y0, x1, y1) for a finite heatmap [rows, cols] lying on the picture as `grid` says.

    `window` is the smallest crop side in picture pixels, `ratios` its enlargements in order. Windows hold at
    least one cell; only cells that touch the picture are searched. The arithmetic and its order are those of
    the published `bbox_from_att_image_adaptive`, with which it agrees wherever that gives a result.
    """
    inside = heatmap[grid.first_row : grid.last_row, grid.first_col : grid.last_col]
    inside = np.ascontiguousarray(inside)
    rows, cols = inside.shape
    windows: list[tuple[int, int]] = []
    for ratio in ratios:
        across = min(max(int(window * ratio / grid.cell_width), 1), cols)
        down = min(max(int(window * ratio / grid.cell_height), 1), rows)
        if across == cols and down == rows:
            break
        windows.append((down, across))
    if not windows:
        return (0, 0, *image_size)
    best = best_window(inside, windows)
    down, across = windows[best.index]
    corner_x = grid.left + grid.first_col * grid.cell_width
    corner_y = grid.top + grid.first_row * grid.cell_height
    centre_x = int(corner_x + (best.col * grid.cell_width + grid.cell_width * across / 2))
    centre_y = int(corner_y + (best.row * grid.cell_height + grid.cell_height * down / 2))
    half = int(window * ratios[best.index] // 2)
    x0, x1 = _pushed_inside(centre_x, half, image_size[0])
    y0, y1 = _pushed_inside(centre_y, half, image_size[1])
    return x0, y0, x1, y1


def outside_zeroed(heatmap: Heatmap, grid: Grid) -> Heatmap:
    """The heatmap with zero in the cells that do not touch the picture."""
    result = np.zeros_like(heatmap)
    rows, cols = slice(grid.first_row, grid.last_row), slice(grid.first_col, grid.last_col)
    result[rows, cols] = heatmap[rows, cols]
    return result


def _pushed_inside(centre: int, half: int, length: int) -> tuple[int, int]:
    centre = max(centre, half)
    centre = min(centre, length - half)
    return max(0, centre - half), min(length, centre + half)
