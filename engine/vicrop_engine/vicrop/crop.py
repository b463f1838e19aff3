"""From heatmap to crop box: window sizes in cells, the search, the box around the winner.

The rules are those of arXiv 2502.17422 as published, less its flaws. Knows grids and pixels; nothing of
models, prompts or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vicrop_engine.arrays import Heatmap
from vicrop_engine.images.geometry import Box, Grid
from vicrop_kernels.arguments import Cells, PictureGrid
from vicrop_kernels.numpy_window import best_window
from vicrop_kernels.placement import crop_box, window_sizes


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
    lies = picture_grid(grid, image_size)
    cells = Cells(grid.first_row, grid.last_row, grid.first_col, grid.last_col)
    sizes = window_sizes(lies, cells, window, ratios)
    if not sizes:
        return (0, 0, *image_size)
    inside = heatmap[grid.first_row : grid.last_row, grid.first_col : grid.last_col]
    best = best_window(np.ascontiguousarray(inside), [(size.height, size.width) for size in sizes])
    return crop_box(lies, cells, sizes[best.index], best.row, best.col)


def picture_grid(grid: Grid, image_size: tuple[int, int]) -> PictureGrid:
    """The grid on its picture as the heatmap operator is told of it."""
    inside = Cells(grid.first_row, grid.last_row, grid.first_col, grid.last_col)
    return PictureGrid(image_size, grid.left, grid.top, grid.cell_width, grid.cell_height, inside)


def outside_zeroed(heatmap: Heatmap, grid: Grid) -> Heatmap:
    """The heatmap with zero in the cells that do not touch the picture."""
    result = np.zeros_like(heatmap)
    rows, cols = slice(grid.first_row, grid.last_row), slice(grid.first_col, grid.last_col)
    result[rows, cols] = heatmap[rows, cols]
    return result
