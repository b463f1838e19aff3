"""A picture as LLaVA-1.5 sees it: one square input, a token for each patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from vicrop_engine.engine_dir.manifest import CPU, CUDA, TENSORRT, Manifest
from vicrop_engine.engine_dir.parsing import parse
from vicrop_engine.engine_dir.records import Preprocessing, VisionGeometry
from vicrop_engine.images.geometry import Grid, Placement, placed_grid, whole_grid
from vicrop_engine.images.preprocessing import ModelInput, fills_input, preprocess, preprocess_on_patches
from vicrop_engine.images.seen import Layout, Seen, VisionInputs, Way, square_noise
from vicrop_engine.images.tiling import AUTO_SIDE, TilePlan

Size = tuple[int, int]


@dataclass(frozen=True)
class NoSettings:
    """The family has none."""


class Llava:
    """Every picture is one input, and so takes the same number of tokens."""

    in_several_inputs: ClassVar[bool] = False
    crops_in_one_input: ClassVar[bool] = True
    extra_rows: ClassVar[int] = 0
    is_published: ClassVar[bool] = True
    targets: ClassVar[tuple[str, ...]] = (CPU, CUDA, TENSORRT)
    in_own_size: ClassVar[bool] = False
    takes_pixel_gradients: ClassVar[bool] = True
    reads_instructions: ClassVar[bool] = False

    def __init__(self, manifest: Manifest, preprocessing: Preprocessing) -> None:
        parse(NoSettings, manifest.family.settings, "the manifest's family settings")
        self._vision, self._preprocessing = manifest.vision, preprocessing
        self._placeholder = manifest.prompts.image_placeholder

    @property
    def auto_side(self) -> int:
        """The paper takes tiles on V* (2000 to 2250 pixels wide) and not on TextVQA (up to 1024)."""
        return AUTO_SIDE

    @property
    def largest_input(self) -> int:
        """Those of its square."""
        return self._vision.image_size**2

    def see(self, image: Image.Image, way: Way) -> Seen:
        """The picture as the checkpoint's processor or the default fit makes it."""
        made = preprocess(image, self._preprocessing, "processor" if way.published else None)
        return self._seen(made, image.size, published=way.published)

    def see_tile(self, tile: Image.Image, plan: TilePlan) -> Seen:
        """On whole patches in its own shape, or as the published code does."""
        if plan.published:
            return self.see(tile, Way(published=True))
        whole = self._vision.rows, self._vision.cols
        cells = whole if fills_input(self._preprocessing) else plan.cells(*whole)
        made = preprocess_on_patches(tile, self._preprocessing, cells, self._vision.patch_size)
        return self._seen(made, tile.size, published=False)

    def noise(self, random: np.random.RandomState) -> Seen:
        """One input of whole 64ths."""
        side = self._vision.image_size
        return Seen(square_noise(random, side), Placement(0, 0, side, side), self.layouts(Way())[0])

    def layouts(self, way: Way) -> tuple[Layout, Layout]:
        """The same for every picture."""
        side = self._vision.image_size
        one = self._layout(whole_grid(self._vision.rows, self._vision.cols, (side, side)))
        return one, one

    def _seen(self, made: ModelInput, size: Size, *, published: bool) -> Seen:
        vision = self._vision
        grid = (
            whole_grid(vision.rows, vision.cols, size)
            if published
            else placed_grid(vision.rows, vision.cols, vision.patch_size, made.placement, size)
        )
        return Seen(VisionInputs.of_pixels(made.pixels), made.placement, self._layout(grid))

    def _layout(self, grid: Grid) -> Layout:
        return Layout(self._placeholder, (self._vision.image_tokens,), grid, patch_order(self._vision))


def patch_order(vision: VisionGeometry) -> tuple[int, ...]:
    """Patches one after the other, after a class token where one is kept."""
    return tuple(range(vision.patch_offset, vision.patch_offset + vision.rows * vision.cols))
