"""Where a picture lies on its tiles and which of their cells are its own, from sizes alone.

The arithmetic, its order and both of its roundings are transformers': `select_best_resolution` and
`get_patch_output_size` of image_processing_utils, `unpad_image` of models/llava_next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vicrop_engine.arrays import Ints
from vicrop_engine.images.geometry import Grid

Size = tuple[int, int]  # width, height
Pair = tuple[int, int]  # of rows and columns, or height and width


@dataclass(frozen=True)
class Unpadded:
    """A picture on `tiles` (rows, columns), each of a square of cells.

    It is scaled to `size` and pasted at `place` (left, top), in pixels; `cells` (rows, columns) are what is
    left of the tiles' cells after `skipped` ones from above and from the left. Of very long pictures none is.
    """

    tiles: Pair
    size: Size
    place: Pair
    cells: Pair
    skipped: Pair

    @classmethod
    def of(cls, size: Size, pinpoints: Sequence[Pair], side: int, cells: int) -> Unpadded:
        """A picture of `size` on tiles of `side` pixels and `cells` cells a side."""
        height, width = best_pinpoint(size, pinpoints)
        tiles = height // side, width // side
        scaled = scaled_size(size, (width, height))
        place = (width - scaled[0]) // 2, (height - scaled[1]) // 2
        kept, skipped = kept_cells(size, (tiles[0] * cells, tiles[1] * cells))
        return cls(tiles, scaled, place, kept, skipped)

    def filled(self, patch: int) -> Unpadded:
        """The same cells with the picture stretched over just these, of `patch` pixels a side."""
        (rows, cols), (above, before) = self.cells, self.skipped
        return Unpadded(
            self.tiles,
            (cols * patch, rows * patch),
            (before * patch, above * patch),
            self.cells,
            self.skipped,
        )

    def grid(self, size: Size, patch: int) -> Grid:
        """How the cells lie on the picture; the first and the last may be on its padding alone."""
        (rows, cols), (above, before) = self.cells, self.skipped
        across, down = size[0] / self.size[0], size[1] / self.size[1]
        columns = touched(self.place[0], self.size[0], patch, before, cols)
        lines = touched(self.place[1], self.size[1], patch, above, rows)
        left, top = (before * patch - self.place[0]) * across, (above * patch - self.place[1]) * down
        return Grid(rows, cols, left, top, patch * across, patch * down, *lines, *columns)

    def rows_of_tiles(self, side: int, newline: int) -> Ints:
        """Which rows of the tiles' embeddings are the picture's, line by line, each ended by row `newline`.

        Tiles follow each other row by row, and so do each one's `side` × `side` cells.
        """
        (rows, cols), (above, before) = self.cells, self.skipped
        y, x = np.arange(above, above + rows)[:, None], np.arange(before, before + cols)[None]
        tile = (y // side) * self.tiles[1] + x // side
        places = tile * side**2 + (y % side) * side + x % side
        lines = np.concatenate((places, np.full((rows, 1), newline, np.int64)), axis=1)
        return lines.reshape(-1)


def best_pinpoint(size: Size, pinpoints: Sequence[Pair]) -> Pair:
    """Height and width that keep most of a picture's pixels, of these the least area; the first wins."""
    width, height = size
    best, most, least = pinpoints[0], -1, math.inf
    for pinpoint in pinpoints:
        scale = min(pinpoint[1] / width, pinpoint[0] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        wasted = pinpoint[0] * pinpoint[1] - kept
        if kept > most or (kept == most and wasted < least):
            best, most, least = pinpoint, kept, wasted
    return best


def scaled_size(size: Size, room: Size) -> Size:
    """The picture as large as `room` holds; the side that does not fill it is rounded up."""
    (width, height), (most_wide, most_high) = size, room
    across, down = most_wide / width, most_high / height
    if across < down:
        return most_wide, min(math.ceil(height * across), most_high)
    return min(math.ceil(width * down), most_wide), most_high


def kept_cells(size: Size, cells: Pair) -> tuple[Pair, Pair]:
    """Rows and columns left of `cells` without the picture's padding, and how many go from above and left.

    As many go from below and from the right; the side that does not fill is rounded down, to seven places.
    """
    (width, height), (rows, cols) = size, cells
    if width / height > cols / rows:
        cut = (rows - int(round(height * (cols / width), 7))) // 2
        return (rows - 2 * cut, cols), (cut, 0)
    cut = (cols - int(round(width * (rows / height), 7))) // 2
    return (rows, cols - 2 * cut), (0, cut)


def touched(place: int, length: int, patch: int, skipped: int, cells: int) -> Pair:
    """The first and last-plus-one of the kept cells that `length` pixels from `place` on touch."""
    first = min(max(place // patch - skipped, 0), max(cells - 1, 0))
    last = max(min(-(-(place + length) // patch) - skipped, cells), min(first + 1, cells))
    return first, last
