"""A picture as InstructBLIP sees it: one square input, and as many tokens as its Q-Former has queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from vicrop_engine.engine_dir.manifest import CPU, CUDA, Manifest
from vicrop_engine.engine_dir.parsing import parse
from vicrop_engine.engine_dir.records import Preprocessing
from vicrop_engine.errors import ConfigError
from vicrop_engine.images.geometry import Placement, whole_grid
from vicrop_engine.images.preprocessing import preprocess
from vicrop_engine.images.seen import Layout, Seen, VisionInputs, Way, square_noise
from vicrop_engine.images.tiling import AUTO_SIDE, TilePlan

Size = tuple[int, int]
NOISE_INSTRUCTION = 12  # ids of a probe's instruction


@dataclass(frozen=True)
class NoSettings:
    """The family has none."""


class InstructBlip:
    """Tokens are no places on the picture; the cells are those that the Q-Former's queries look at."""

    in_several_inputs: ClassVar[bool] = False
    crops_in_one_input: ClassVar[bool] = True
    extra_rows: ClassVar[int] = 0
    is_published: ClassVar[bool] = True
    targets: ClassVar[tuple[str, ...]] = (CPU, CUDA)
    in_own_size: ClassVar[bool] = False
    takes_pixel_gradients: ClassVar[bool] = False
    reads_instructions: ClassVar[bool] = True

    def __init__(self, manifest: Manifest, preprocessing: Preprocessing) -> None:
        parse(NoSettings, manifest.family.settings, "the manifest's family settings")
        if manifest.instructed is None:
            raise ConfigError("the manifest says nothing of what reads instructions ('instructed')")
        self._vision, self._reader = manifest.vision, manifest.instructed
        self._preprocessing = preprocessing
        self._placeholder = manifest.prompts.image_placeholder

    @property
    def auto_side(self) -> int:
        """The paper takes tiles on V* alone, with this model as with LLaVA-1.5."""
        return AUTO_SIDE

    @property
    def largest_input(self) -> int:
        """Those of its square."""
        return self._vision.image_size**2

    def see(self, image: Image.Image, way: Way) -> Seen:
        """The picture stretched to the square, as the published code does too."""
        made = preprocess(image, self._preprocessing, "processor" if way.published else None)
        return Seen(VisionInputs.of_pixels(made.pixels), made.placement, self._layout(image.size))

    def see_tile(self, tile: Image.Image, plan: TilePlan) -> Seen:
        """Like a picture of its own."""
        return self.see(tile, Way(published=plan.published))

    def noise(self, random: np.random.RandomState) -> Seen:
        """One input of whole 64ths, and an instruction of any ids."""
        side = self._vision.image_size
        inputs = square_noise(random, side)
        ids = random.randint(0, self._reader.vocab_size, min(NOISE_INSTRUCTION, self._reader.most_tokens))
        asked = inputs.asked(tuple(ids.tolist()))
        return Seen(asked, Placement(0, 0, side, side), self._layout((side, side)))

    def layouts(self, way: Way) -> tuple[Layout, Layout]:
        """The same for every picture."""
        side = self._vision.image_size
        one = self._layout((side, side))
        return one, one

    def _layout(self, size: Size) -> Layout:
        vision = self._vision
        grid = whole_grid(vision.rows, vision.cols, size)
        return Layout(self._placeholder, (vision.image_tokens,), grid, tuple(range(vision.image_tokens)))
