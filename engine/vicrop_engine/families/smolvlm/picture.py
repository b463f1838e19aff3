"""A picture as SmolVLM and Idefics3 see it: blown up to whole tiles, each an input, the whole one last.

The processor's steps and their order are those of transformers' SmolVLMImageProcessorPil.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from vicrop_engine.arrays import Floats
from vicrop_engine.engine_dir.manifest import CPU, CUDA, TENSORRT, Manifest
from vicrop_engine.engine_dir.parsing import parse
from vicrop_engine.engine_dir.records import Preprocessing
from vicrop_engine.images.geometry import Placement, whole_grid
from vicrop_engine.images.preprocessing import preprocess
from vicrop_engine.images.seen import Layout, Seen, VisionInputs, Way, square_noise
from vicrop_engine.images.tiling import TilePlan

Size = tuple[int, int]  # width, height
AROUND, GLOBAL = "<fake_token_around_image>", "<global-img>"
LARGEST = 4096  # the processor's own bound of a side


@dataclass(frozen=True)
class TileSettings:
    """`longest_edge` is what a picture's longer side is scaled to before it is cut to tiles, up or down."""

    longest_edge: int


class SmolVLM:
    """Tiles of one side, row by row; a cell of the picture is a cell of its tile."""

    in_several_inputs: ClassVar[bool] = True
    crops_in_one_input: ClassVar[bool] = True
    extra_rows: ClassVar[int] = 0
    is_published: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = (CPU, CUDA, TENSORRT)
    in_own_size: ClassVar[bool] = False
    takes_pixel_gradients: ClassVar[bool] = False
    reads_instructions: ClassVar[bool] = False

    def __init__(self, manifest: Manifest, preprocessing: Preprocessing) -> None:
        settings = parse(TileSettings, manifest.family.settings, "the manifest's family settings")
        self._longest_edge = min(settings.longest_edge, LARGEST)
        self._vision, self._preprocessing = manifest.vision, preprocessing
        self._placeholder = manifest.prompts.image_placeholder

    @property
    def auto_side(self) -> int:
        """Twice what it sees of a picture's longer side."""
        return 2 * self._longest_edge

    @property
    def largest_input(self) -> int:
        """Those of its square."""
        return self._vision.image_size**2

    def see(self, image: Image.Image, way: Way) -> Seen:
        """All tiles and then the whole picture; that alone where it is no larger than a tile, or by `way`."""
        first = self._resized(image, longest_edge_size(image.size, self._longest_edge))
        if way.one:
            return self._seen([first], (0, 0), image.size)
        side = self._vision.image_size
        whole = self._resized(first, whole_tiles_size(first.size, side))
        cols, rows = (length // side for length in whole.size)
        if rows == cols == 1:
            return self._seen([whole], (0, 0), image.size)
        boxes = [
            (col * side, row * side, (col + 1) * side, (row + 1) * side)
            for row in range(rows)
            for col in range(cols)
        ]
        return self._seen([*(whole.crop(box) for box in boxes), whole], (rows, cols), image.size)

    def see_tile(self, tile: Image.Image, plan: TilePlan) -> Seen:
        """As one input, for the plan has made it small."""
        return self.see(tile, Way(plan.published, one=True))

    def noise(self, random: np.random.RandomState) -> Seen:
        """One tile of whole 64ths."""
        side = self._vision.image_size
        return Seen(
            square_noise(random, side), Placement(0, 0, side, side), self._layout((0, 0), (side, side))
        )

    def layouts(self, way: Way) -> tuple[Layout, Layout]:
        """One tile, and where there may be more a picture cut both ways as often as can be."""
        side = self._vision.image_size
        longest = self._longest_edge + self._longest_edge % 2  # the other side of a square is made even
        one, most = self._layout((0, 0), (side, side)), -(-longest // side)
        if way.one or most == 1:
            return one, one
        return one, self._layout((most, most), (side, side))

    def _resized(self, image: Image.Image, size: Size) -> Image.Image:
        return image.resize(size, Image.Resampling(self._preprocessing.resample))

    def _seen(self, tiles: list[Image.Image], cut: Size, size: Size) -> Seen:
        pixels: Floats = np.concatenate([preprocess(tile, self._preprocessing).pixels for tile in tiles])
        side = self._vision.image_size
        return Seen(VisionInputs.of_pixels(pixels), Placement(0, 0, side, side), self._layout(cut, size))

    def _layout(self, cut: Size, size: Size) -> Layout:
        """Of a picture of `size` cut to so many rows and columns, none where it is one tile."""
        vision, (rows, cols) = self._vision, cut
        text = "".join(
            "".join(f"{AROUND}<row_{row}_col_{col}>{self._placeholder}" for col in range(1, cols + 1)) + "\n"
            for row in range(1, rows + 1)
        )
        text += ("\n" if rows else "") + f"{AROUND}{GLOBAL}{self._placeholder}{AROUND}"
        grid = whole_grid(max(rows, 1) * vision.rows, max(cols, 1) * vision.cols, size)
        order = cell_order(max(rows, 1), max(cols, 1), vision.rows, vision.cols)
        return Layout(text, (vision.image_tokens,) * (rows * cols + 1), grid, order, closing=1)


def longest_edge_size(size: Size, edge: int) -> Size:
    """The longer side is `edge`, the other in proportion and even."""
    width, height = size
    shape = width / height
    if width >= height:
        other = int(edge / shape)
        return edge, max(other + other % 2, 1)
    other = int(edge * shape)
    return max(other + other % 2, 1), edge


def whole_tiles_size(size: Size, side: int) -> Size:
    """As many whole tiles as hold the longer side, and then the other in proportion."""
    width, height = size
    shape = width / height
    if width >= height:
        width = math.ceil(width / side) * side
        return width, math.ceil(int(width / shape) / side) * side
    height = math.ceil(height / side) * side
    return math.ceil(int(height * shape) / side) * side, height


def cell_order(rows: int, cols: int, tile_rows: int, tile_cols: int) -> tuple[int, ...]:
    """Which token is which cell, row by row, of tiles one after the other."""
    y, x = np.divmod(np.arange(rows * tile_rows * cols * tile_cols), cols * tile_cols)
    tile = (y // tile_rows) * cols + x // tile_cols
    order = tile * tile_rows * tile_cols + (y % tile_rows) * tile_cols + x % tile_cols
    return tuple(order.tolist())
