"""The input that a build shows to transformers and to its graphs."""

from __future__ import annotations

from dataclasses import dataclass

from vicrop_engine.arrays import Floats


@dataclass(frozen=True)
class Probe:
    """One image and a prompt cut in three: image prefix, question suffix, one decoded token."""

    pixel_values: Floats  # [1, 3, side, side]
    image_token: int
    prefix: list[int]  # with the image token repeated once per image embedding
    suffix: list[int]
    decoded: int

    @property
    def ids(self) -> list[int]:
        """The whole prompt."""
        return [*self.prefix, *self.suffix, self.decoded]
