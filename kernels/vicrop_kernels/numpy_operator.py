"""The heatmap operator in NumPy: rows of a batch in, heatmaps and crop boxes out.

Its truth is `definition.locate`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vicrop_kernels.arguments import Arguments
from vicrop_kernels.numpy_heatmap import gradient_heatmap, heatmap
from vicrop_kernels.numpy_search import find_box

Rows = npt.NDArray[np.floating]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]


def locate(first: Rows, second: Rows, arguments: Arguments) -> tuple[Floats, Integers]:
    """Heatmaps, float32 [batch, rows, cols], and crop boxes x0, y0, x1, y1 in pixels, int32 [batch, 4].

    `first` and `second` are rows [maps, layers, heads, patches] of float16, 32 or 64, however they lie in
    memory: the question's and the general prompt's, or in mode "gradient" attention and gradient; a picture's
    tiles follow one another, row by row. Raises ValueError on shapes that do not agree with `arguments`.
    """
    maps = heatmaps(first, second, arguments)
    boxes = [find_box(one, arguments, at) for one, at in zip(maps, arguments.pictures, strict=True)]
    return maps, np.array(boxes, np.int32)


def heatmaps(first: Rows, second: Rows, arguments: Arguments) -> Floats:
    """The heatmaps of `locate` alone: tiles put together, zero outside the pictures."""
    arguments.check_rows(first.shape, second.shape)
    weights = None if arguments.weights is None else np.asarray(arguments.weights, np.float64)
    make = heatmap if arguments.mode == "relative" else gradient_heatmap
    maps = _put_together(make(first, second, arguments.rows, arguments.cols, weights), arguments)
    return _outside_zeroed(maps, arguments)


def _put_together(maps: Floats, arguments: Arguments) -> Floats:
    """[maps, rows, cols] to [batch, rows, cols]."""
    kept, tiles = arguments.kept, arguments.tiles
    maps = maps[:, kept.first_row : kept.last_row, kept.first_col : kept.last_col]
    if tiles.over_mean:
        maps = np.stack([_over_mean(one) for one in maps])
    blocks = maps.reshape(-1, tiles.rows, tiles.cols, kept.rows, kept.cols).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(blocks.reshape(-1, arguments.map_rows, arguments.map_cols))


def _over_mean(values: Floats) -> Floats:
    mean = np.float32(values.mean(dtype=np.float64))
    return values if mean <= 0 else values / mean


def _outside_zeroed(maps: Floats, arguments: Arguments) -> Floats:
    if all(picture.inside is None for picture in arguments.pictures):
        return maps
    result = np.zeros_like(maps)
    for zeroed, values, picture in zip(result, maps, arguments.pictures, strict=True):
        inside = arguments.inside(picture)
        place = slice(inside.first_row, inside.last_row), slice(inside.first_col, inside.last_col)
        zeroed[place] = values[place]
    return result
