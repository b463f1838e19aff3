"""The input that a build shows to transformers and to its graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vicrop_engine.arrays import Floats, Ints
from vicrop_engine.images.seen import PIXELS
from vicrop_engine.model.positions import positions_of


@dataclass(frozen=True)
class Picture:
    """A picture as the vision graph takes it, by name, and its `tokens` in the decoder.

    `offsets` [axes, tokens] is where they stand, counted from where the picture begins; without any they are
    counted one by one. `instruction` are the ids of the text that the vision part reads with it, if it does.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    tokens: int
    offsets: Ints | None = None
    instruction: tuple[int, ...] | None = None

    @classmethod
    def of_pixels(cls, pixels: Floats, tokens: int) -> Picture:
        """A square one, [1, 3, side, side]."""
        return cls({PIXELS: pixels}, tokens)

    def moved(self, by: float, seed: int) -> Picture:
        """The same picture, each of its numbers moved by some share of itself, `by` at most."""
        random, arrays = np.random.RandomState(seed), dict(self.arrays)
        name, array = next(iter(arrays.items()))
        share = random.uniform(-by, by, array.shape)
        arrays[name] = (array * (1 + share)).astype(np.float32)
        return replace(self, arrays=arrays)


@dataclass(frozen=True)
class Probe:
    """One image and a prompt cut in three: image prefix, question suffix, one decoded token."""

    picture: Picture
    image_token: int
    prefix: list[int]  # with the image token repeated once per image embedding
    suffix: list[int]
    decoded: int
    axes: int = 1  # of a token's position

    @property
    def ids(self) -> list[int]:
        """The whole prompt."""
        return [*self.prefix, *self.suffix, self.decoded]

    @property
    def is_image(self) -> npt.NDArray[np.bool_]:
        """Which of them are of the image, [tokens]."""
        found: npt.NDArray[np.bool_] = np.array(self.ids) == self.image_token
        return found

    @property
    def positions(self) -> Ints:
        """Where they stand, [axes, tokens]."""
        return positions_of(self.is_image, [self.picture.offsets], 0, self.axes)
