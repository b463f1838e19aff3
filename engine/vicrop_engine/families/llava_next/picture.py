"""A picture as LLaVA-NeXT sees it: squeezed to one square input, then cut to tiles in its own shape.

The processor's steps and their order are those of transformers' LlavaNextImageProcessorPil.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from vicrop_engine.arrays import Floats
from vicrop_engine.engine_dir.manifest import CPU, CUDA, Manifest
from vicrop_engine.engine_dir.parsing import parse
from vicrop_engine.engine_dir.records import Preprocessing
from vicrop_engine.families.llava_next.unpadded import Unpadded
from vicrop_engine.images.geometry import Grid, Placement, whole_grid
from vicrop_engine.images.preprocessing import preprocess
from vicrop_engine.images.seen import Layout, Seen, VisionInputs, Way, square_noise
from vicrop_engine.images.tiling import TilePlan

Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class PinpointSettings:
    """`pinpoints` are the heights and widths, of whole tiles, that a picture is fitted into one of."""

    pinpoints: tuple[tuple[int, int], ...]


class LlavaNext:
    """The base's tokens first; then the tiles' as one grid, line by line, each line ended by a sign.

    The grid's cells are the heatmap's, and the base is a second, coarser view. Seen as one input the base is
    all there is, with one sign at its end; so it is where a picture is so long that no cell of its grid is
    left.
    """

    in_several_inputs: ClassVar[bool] = True
    crops_in_one_input: ClassVar[bool] = False
    extra_rows: ClassVar[int] = 1
    in_own_size: ClassVar[bool] = False
    takes_pixel_gradients: ClassVar[bool] = False
    reads_instructions: ClassVar[bool] = False
    is_published: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = (CPU, CUDA)

    def __init__(self, manifest: Manifest, preprocessing: Preprocessing) -> None:
        settings = parse(PinpointSettings, manifest.family.settings, "the manifest's family settings")
        self._pinpoints, self._vision = settings.pinpoints, manifest.vision
        self._preprocessing = preprocessing
        self._placeholder = manifest.prompts.image_placeholder

    @property
    def auto_side(self) -> int:
        """Twice what it sees of a picture's longer side."""
        return 2 * max(max(pinpoint) for pinpoint in self._pinpoints)

    @property
    def largest_input(self) -> int:
        """Those of its square."""
        return self._vision.image_size**2

    def see(self, image: Image.Image, way: Way) -> Seen:
        """The base and all tiles; that alone by `way`."""
        if way.one:
            return self._base_alone(image)
        lies = self._lies(image.size)
        return self._seen(image, lies, lies.grid(image.size, self._vision.patch_size))

    def see_tile(self, tile: Image.Image, plan: TilePlan) -> Seen:
        """Like a picture of its own, on whole cells; all of a plan's have one size but for a pixel."""
        usual = -(-plan.size[0] // plan.cols), -(-plan.size[1] // plan.rows)
        lies = self._lies(usual)
        if not all(lies.cells):
            return self._base_alone(tile)
        return self._seen(tile, lies.filled(self._vision.patch_size), whole_grid(*lies.cells, tile.size))

    def noise(self, random: np.random.RandomState) -> Seen:
        """A base alone, of whole 64ths."""
        side = self._vision.image_size
        layout = self._base_layout((side, side))
        pixels = square_noise(random, side).pixels
        inputs = VisionInputs.of_pixels(pixels, np.arange(layout.tokens, dtype=np.int64))
        return Seen(inputs, Placement(0, 0, side, side), layout)

    def layouts(self, way: Way) -> tuple[Layout, Layout]:
        """The base alone; where there are tiles, that without any line and with as many cells as can be."""
        side = self._vision.image_size
        base = self._base_layout((side, side))
        if way.one:
            return base, base
        lies = [self._lies((width, height)) for height, width in self._pinpoints]
        most = max(lies, key=lambda each: each.cells[0] * (each.cells[1] + 1))
        grid = whole_grid(*most.cells, (side, side))
        none = Layout(self._placeholder, (self._vision.image_tokens,), base.grid, base.order)
        return none, self._layout(most, grid, (side, side))

    def _lies(self, size: Size) -> Unpadded:
        return Unpadded.of(size, self._pinpoints, self._vision.image_size, self._vision.rows)

    def _seen(self, image: Image.Image, lies: Unpadded, grid: Grid) -> Seen:
        side, cells = self._vision.image_size, self._vision.rows
        rows, cols = lies.tiles
        canvas = Image.new("RGB", (cols * side, rows * side))
        canvas.paste(self._resized(image, lies.size), lies.place)
        tiles = [
            canvas.crop((col * side, row * side, (col + 1) * side, (row + 1) * side))
            for row in range(rows)
            for col in range(cols)
        ]
        base = self._resized(image, (side, side))
        pixels: Floats = np.concatenate(
            [preprocess(each, self._preprocessing, "processor").pixels for each in (base, *tiles)]
        )
        tokens = self._vision.image_tokens
        lines = lies.rows_of_tiles(cells, rows * cols * tokens)
        picked = np.concatenate((np.arange(tokens), tokens + lines))
        layout = self._layout(lies, grid, image.size)
        return Seen(VisionInputs.of_pixels(pixels, picked), Placement(0, 0, side, side), layout)

    def _base_alone(self, image: Image.Image) -> Seen:
        side = self._vision.image_size
        base = preprocess(self._resized(image, (side, side)), self._preprocessing, "processor").pixels
        layout = self._base_layout(image.size)
        inputs = VisionInputs.of_pixels(base, np.arange(layout.tokens, dtype=np.int64))
        return Seen(inputs, Placement(0, 0, side, side), layout)

    def _resized(self, image: Image.Image, size: Size) -> Image.Image:
        return image.resize(size, Image.Resampling(self._preprocessing.resample))

    def _base_layout(self, size: Size) -> Layout:
        """Of the base alone, whose one line is all of it (transformers' `pack_image_features`)."""
        vision = self._vision
        grid = whole_grid(vision.rows, vision.cols, size)
        order = tuple(range(vision.image_tokens))
        return Layout(self._placeholder, (vision.image_tokens + 1,), grid, order)

    def _layout(self, lies: Unpadded, grid: Grid, size: Size) -> Layout:
        base, (rows, cols) = self._vision.image_tokens, lies.cells
        runs = (base + rows * (cols + 1),)
        if not rows * cols:
            coarse = self._base_layout(size)
            return Layout(self._placeholder, runs, coarse.grid, coarse.order)
        return Layout(self._placeholder, runs, grid, cell_order(base, rows, cols))


def cell_order(base: int, rows: int, cols: int) -> tuple[int, ...]:
    """Which token is which cell of lines that each end with a sign, after `base` tokens."""
    y, x = np.divmod(np.arange(rows * cols), cols)
    order: list[int] = (base + y * (cols + 1) + x).tolist()
    return tuple(order)
