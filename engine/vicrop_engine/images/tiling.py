"""Tiles: how a large picture is cut to be looked at more closely, and their maps put together as one.

Plain arithmetic on pixels and cells; knows nothing of models or of what is read from a tile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vicrop_engine.arrays import Heatmap
from vicrop_engine.errors import ImageError
from vicrop_engine.images.geometry import Box

TILE_SIDE = 1024
MAX_TILES = 100
AUTO_SIDE = 1536  # the paper takes tiles on V* (2000 to 2250 pixels wide) and not on TextVQA (up to 1024)

Size = tuple[int, int]


@dataclass(frozen=True)
class TilePlan:
    """Tiles of one size in `rows` and `cols`; `boxes` are theirs in picture pixels, row by row.

    `published` tells tiles of the published code: the last ones may reach beyond the picture, into black.
    """

    size: Size
    rows: int
    cols: int
    boxes: tuple[Box, ...]
    published: bool = False

    def cells(self, rows: int, cols: int) -> tuple[int, int]:
        """Rows and columns that a tile takes of a grid of `rows` by `cols` square patches to keep its shape.

        They are whole patches, so that a tile's cells fill it exactly.
        """
        across, down = self.size[0] / self.cols, self.size[1] / self.rows
        scale = min(cols / across, rows / down)
        return max(1, round(down * scale)), max(1, round(across * scale))


def plan_tiles(size: Size, side: int = TILE_SIDE, most: int = MAX_TILES) -> TilePlan:
    """As few tiles as cover a picture of `size` (width, height) with none longer than `side`.

    They lie inside the picture without overlap and differ by a pixel at most. Raises ImageError when they
    would be more than `most`.
    """
    rows, cols = -(-size[1] // side), -(-size[0] // side)
    _check_number(size, rows * cols, most)
    xs, ys = _edges(size[0], cols), _edges(size[1], rows)
    boxes = [(xs[x], ys[y], xs[x + 1], ys[y + 1]) for y in range(rows) for x in range(cols)]
    return TilePlan(size, rows, cols, tuple(boxes))


def published_tiles(size: Size, most: int = MAX_TILES) -> TilePlan:
    """The published code's own tiles; where that divides by no columns, those of `plan_tiles`.

    Raises ImageError when they would be more than `most`.
    """
    width, height = size
    rows = math.ceil(height / TILE_SIDE)
    cols = int(rows * width / height)
    if cols == 0:
        return plan_tiles(size, most=most)
    _check_number(size, rows * cols, most)
    across, down = math.ceil(width / cols), math.ceil(height / rows)
    boxes = [
        (x * across, y * down, (x + 1) * across, (y + 1) * down) for y in range(rows) for x in range(cols)
    ]
    return TilePlan(size, rows, cols, tuple(boxes), published=True)


def worth_tiles(size: Size, side: int = AUTO_SIDE) -> bool:
    """The rule of "auto": the longer side is over `side`, and MAX_TILES are enough."""
    return max(size) > side and _number(size) <= MAX_TILES


def over_its_mean(heatmap: Heatmap) -> Heatmap:
    """A tile's map on a scale that tiles share; one of zeros stays as it is."""
    mean = float(heatmap.mean(dtype=np.float64))
    return heatmap if mean <= 0 else (heatmap / mean).astype(np.float32)


def stitched(maps: Sequence[Heatmap], plan: TilePlan) -> Heatmap:
    """The tiles' maps, all of one shape and row by row, as one map of the picture."""
    rows = [list(maps[start : start + plan.cols]) for start in range(0, len(maps), plan.cols)]
    return np.ascontiguousarray(np.block(rows), np.float32)


def _number(size: Size) -> int:
    return -(-size[1] // TILE_SIDE) * -(-size[0] // TILE_SIDE)


def _check_number(size: Size, number: int, most: int) -> None:
    if number > most:
        raise ImageError(
            f"a picture of {size[0]} x {size[1]} pixels makes {number} tiles and the limit is {most}; "
            "give a smaller one or ask with high_res 'off'"
        )


def _edges(length: int, parts: int) -> list[int]:
    return [index * length // parts for index in range(parts + 1)]
