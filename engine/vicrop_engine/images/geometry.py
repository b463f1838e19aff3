"""Where things lie: the picture inside the model's input, and the patch grid on the picture.

Plain arithmetic on pixels and cells; knows nothing of files, models or attention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """The whole picture as it lies in the model's input, in input pixels; may reach beyond its edges."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Grid:
    """The patch grid laid on a picture: corner and cell size in picture pixels.

    Rows `first_row` up to `last_row` and the columns likewise (half open) are those that touch the picture;
    the others saw padding.
    """

    rows: int
    cols: int
    left: float
    top: float
    cell_width: float
    cell_height: float
    first_row: int
    last_row: int
    first_col: int
    last_col: int

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of the whole grid in picture pixels."""
        right = self.left + self.cell_width * self.cols
        return self.left, self.top, right, self.top + self.cell_height * self.rows


def whole_grid(rows: int, cols: int, image_size: tuple[int, int]) -> Grid:
    """A grid stretched over the whole picture (width, height), as the published code lays it."""
    width, height = image_size
    return Grid(rows, cols, 0.0, 0.0, width / cols, height / rows, 0, rows, 0, cols)


def placed_grid(
    rows: int, cols: int, patch_size: int, placement: Placement, image_size: tuple[int, int]
) -> Grid:
    """The grid mapped back through the preprocessing that was really applied."""
    width, height = image_size
    first_col, last_col = _touching(cols, patch_size, placement.left, placement.width)
    first_row, last_row = _touching(rows, patch_size, placement.top, placement.height)
    return Grid(
        rows,
        cols,
        -placement.left * width / placement.width,
        -placement.top * height / placement.height,
        width * (cols * patch_size) / placement.width / cols,
        height * (rows * patch_size) / placement.height / rows,
        first_row,
        last_row,
        first_col,
        last_col,
    )


def _touching(cells: int, patch_size: int, start: float, length: float) -> tuple[int, int]:
    """First and last-plus-one cell that a stretch of input pixels touches; never empty."""
    first = min(max(math.floor(start / patch_size), 0), cells - 1)
    last = max(min(math.ceil((start + length) / patch_size), cells), first + 1)
    return first, last


Box = tuple[int, int, int, int]


def covering_square(box: Box, size: tuple[int, int]) -> Box:
    """The smallest square that holds `box`, centred on it and pushed inside a picture of `size` (w, h).

    Where the picture is narrower than the square, all of that side is taken.
    """
    x0, y0, x1, y1 = box
    side = max(x1 - x0, y1 - y0)
    left, right = _span(x0, x1, side, size[0])
    top, bottom = _span(y0, y1, side, size[1])
    return left, top, right, bottom


def _span(start: int, stop: int, side: int, length: int) -> tuple[int, int]:
    side = min(side, length)
    first = min(max(start - (side - (stop - start)) // 2, 0), length - side)
    return first, first + side
