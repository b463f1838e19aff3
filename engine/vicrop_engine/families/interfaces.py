"""What a model family tells the engine. One folder for each; `table` is the only place with their names."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from PIL import Image

from vicrop_engine.engine_dir.manifest import Manifest
from vicrop_engine.engine_dir.records import Preprocessing
from vicrop_engine.images.seen import Layout, Seen, Way
from vicrop_engine.images.tiling import TilePlan


class Family(Protocol):
    """One engine's family: from pictures to inputs of the vision tower and to tokens of prompts."""

    @property
    def auto_side(self) -> int:
        """Pixels of a picture's longer side above which high-res "auto" looks at it in tiles."""

    @property
    def largest_input(self) -> int:
        """Pixels of a picture's largest input."""

    def see(self, image: Image.Image, way: Way) -> Seen:
        """An RGB picture as the vision tower takes it. Raises ImageError where it cannot be."""

    def see_tile(self, tile: Image.Image, plan: TilePlan) -> Seen:
        """One of the plan's tiles of a picture, to be looked at like a picture of its own."""

    def noise(self, random: np.random.RandomState) -> Seen:
        """A small picture of noise around zero for an engine's probe, the same from the same generator."""

    def layouts(self, way: Way) -> tuple[Layout, Layout]:
        """The layouts with the fewest and with the most tokens that a picture seen so can have."""


class FamilyType(Protocol):
    """A row of the table: what is known of a family without an engine of it."""

    in_several_inputs: bool
    """Whether a picture may be several inputs of the vision tower."""
    in_own_size: bool
    """Whether a picture is seen in its own size, within bounds of pixels, and takes tokens by it."""
    crops_in_one_input: bool
    """Of several inputs: whether a crop is a single one where nothing else is asked for."""
    extra_rows: int
    """Embeddings that an engine has beside those of pictures' inputs, to be picked among a picture's."""
    takes_pixel_gradients: bool
    """Whether there is a graph that goes back to its pixels, for pure-grad."""
    reads_instructions: bool
    """Whether its vision part reads the prompt's text, so that a picture has other tokens for each prompt."""
    is_published: bool
    """Whether the published code answers with it, whose geometry `compat` reproduces."""
    targets: tuple[str, ...]
    """What its engines are built for."""

    def __call__(self, manifest: Manifest, preprocessing: Preprocessing) -> Family:
        """The family of this engine. Raises ConfigError for settings it does not know."""
