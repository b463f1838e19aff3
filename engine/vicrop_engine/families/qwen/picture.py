"""A picture as Qwen's models see it: in its own shape, up to `max_pixels`, a token for 2 × 2 patches.

The processor's steps and their order are those of transformers' Qwen2VLImageProcessorPil.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from vicrop_engine.arrays import Floats
from vicrop_engine.engine_dir.manifest import CPU, CUDA, TENSORRT, Manifest
from vicrop_engine.engine_dir.parsing import parse
from vicrop_engine.engine_dir.records import Preprocessing
from vicrop_engine.families.qwen.sizes import Size, bounds_of_cells, whole_cells
from vicrop_engine.families.qwen.tables import patch_positions, position_taps, windows
from vicrop_engine.images.geometry import Placement, whole_grid
from vicrop_engine.images.preprocessing import preprocess
from vicrop_engine.images.seen import Layout, Seen, VisionInputs, Way
from vicrop_engine.images.tiling import TilePlan

MERGED = 2  # patches a side of a cell
FRAMES = 2  # of a patch in time; a still picture is its own next frame
NOISE_CELLS = 6, 8  # rows and columns of a probe's picture

# What the published code does with a picture: `process_vision_info` of qwen_vl_utils brings it to whole cells
# first, and the processor again to as many pixels as run.py allows.
PUBLISHED_FIRST = 4 * 28**2, 16384 * 28**2
PUBLISHED_MOST = 256 * 28**2


@dataclass(frozen=True)
class QwenSettings:
    """`patch` is the side of a patch in pixels, `window` that of an attention window in cells, 0 without.

    A picture has `min_pixels` to `max_pixels`. `table` is the side of the position table, 0 without.
    """

    patch: int
    min_pixels: int
    max_pixels: int
    window: int
    table: int


class Qwen:
    """One cell is 2 × 2 patches and one token."""

    in_several_inputs: ClassVar[bool] = False
    crops_in_one_input: ClassVar[bool] = True
    extra_rows: ClassVar[int] = 0
    in_own_size: ClassVar[bool] = True
    takes_pixel_gradients: ClassVar[bool] = False
    reads_instructions: ClassVar[bool] = False
    is_published: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = (CPU, CUDA, TENSORRT)

    def __init__(self, manifest: Manifest, preprocessing: Preprocessing) -> None:
        self._settings = parse(QwenSettings, manifest.family.settings, "the manifest's family settings")
        self._preprocessing = preprocessing
        self._placeholder = manifest.prompts.image_placeholder
        self._side = MERGED * self._settings.patch

    @property
    def auto_side(self) -> int:
        """Twice the side of the largest square it sees."""
        return 2 * math.isqrt(self._settings.max_pixels)

    @property
    def largest_input(self) -> int:
        """Pixels of the largest picture it sees."""
        return self._settings.max_pixels

    def see(self, image: Image.Image, way: Way) -> Seen:
        """Resized once, or twice as the published code does."""
        if way.published:
            first = whole_cells(image.size, self._side, *PUBLISHED_FIRST)
            shown = image.resize(first, Image.Resampling.BICUBIC)
            least, most = self._bounds(replace(way, most_pixels=PUBLISHED_MOST))
            return self._seen(shown, whole_cells(first, self._side, least, most), image.size)
        return self._seen(image, whole_cells(image.size, self._side, *self._bounds(way)), image.size)

    def see_tile(self, tile: Image.Image, plan: TilePlan) -> Seen:
        """Like a picture of its own; all tiles of a plan have one size, though theirs differ by a pixel."""
        usual = -(-plan.size[0] // plan.cols), -(-plan.size[1] // plan.rows)
        bounds = self._bounds(Way(plan.published))
        return self._seen(tile, whole_cells(usual, self._side, *bounds), tile.size)

    def noise(self, random: np.random.RandomState) -> Seen:
        """One of a few cells, which fill no whole number of windows."""
        rows, cols = NOISE_CELLS
        shape = rows * cols * MERGED**2, 3 * FRAMES * self._settings.patch**2
        patches = random.randint(-128, 128, shape).astype(np.float32) / np.float32(64)
        size = cols * self._side, rows * self._side
        return Seen(self._inputs(patches, rows, cols), Placement(0, 0, *size), self._layout(rows, cols, size))

    def layouts(self, way: Way) -> tuple[Layout, Layout]:
        """One row of as few and of as many cells as there may be."""
        least, most = (math.ceil(pixels / self._side**2) for pixels in self._bounds(way))
        few, many = bounds_of_cells(least, most)
        return self._strip(few), self._strip(many)

    def _strip(self, cells: int) -> Layout:
        return self._layout(1, cells, (cells * self._side, self._side))

    def _bounds(self, way: Way) -> tuple[int, int]:
        """Pixels that a picture seen so has at least and at most."""
        settings = self._settings
        most = min(way.most_pixels or settings.max_pixels, settings.max_pixels)
        return min(max(way.least_pixels, settings.min_pixels), most), most

    def _seen(self, image: Image.Image, resized: Size, size: Size) -> Seen:
        width, height = resized
        exactly = replace(
            self._preprocessing, width=width, height=height, crop_width=width, crop_height=height
        )
        pixels = preprocess(image, exactly, "processor").pixels
        cols, rows = width // self._side, height // self._side
        inputs = self._inputs(cut_cells(pixels, self._settings.patch), rows, cols)
        return Seen(inputs, Placement(0, 0, width, height), self._layout(rows, cols, size))

    def _inputs(self, patches: Floats, rows: int, cols: int) -> VisionInputs:
        settings = self._settings
        arrays: dict[str, npt.NDArray[Any]] = {
            "patches": patches,
            "patch_positions": patch_positions(rows, cols),
        }
        if settings.window:
            arrays["window_rows"], arrays["patch_slots"] = windows(rows, cols, settings.window)
        if settings.table:
            arrays["taps"], arrays["tap_weights"] = position_taps(rows, cols, settings.table)
        sizes = {"patches": len(patches), "tokens": rows * cols}
        if settings.window:
            sizes["windows"] = len(arrays["window_rows"])
        return VisionInputs(arrays, sizes)

    def _layout(self, rows: int, cols: int, size: Size) -> Layout:
        y, x = np.divmod(np.arange(rows * cols), cols)
        offsets = (0,) * (rows * cols), tuple(y.tolist()), tuple(x.tolist())
        return Layout(
            self._placeholder,
            (rows * cols,),
            whole_grid(rows, cols, size),
            tuple(range(rows * cols)),
            closing=1,
            offsets=offsets,
        )


class PublishedQwen(Qwen):
    """The one whose flow the method's authors published."""

    is_published: ClassVar[bool] = True


def cut_cells(pixels: Floats, patch: int) -> Floats:
    """[1, 3, height, width] to [patches, 3 · FRAMES · patch²], a cell's patches after each other."""
    rows, cols = (length // (MERGED * patch) for length in pixels.shape[2:])
    cells = pixels.reshape(3, rows, MERGED, patch, cols, MERGED, patch).transpose(1, 4, 2, 5, 0, 3, 6)
    frames = np.repeat(cells[..., None, :, :], FRAMES, axis=-3)
    return np.ascontiguousarray(frames.reshape(rows * cols * MERGED**2, 3 * FRAMES * patch**2))
