"""What a picture becomes for a model: inputs of its vision tower, and where its tokens stand and lie.

Plain records; which family makes what of a picture is in `families`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vicrop_engine.arrays import Floats, Ints
from vicrop_engine.images.geometry import Grid, Placement


@dataclass(frozen=True)
class Layout:
    """A picture's tokens: in a prompt, in runs of `runs` tokens; on the picture, as cells of `grid`.

    `text` stands for the picture in a prompt's template, with the family's placeholder once for each run;
    `closing` is how many tokens of it come after the last run. `order` [rows * cols] says which of the
    picture's tokens is which cell, row by row.
    """

    text: str
    runs: tuple[int, ...]
    grid: Grid
    order: tuple[int, ...]
    closing: int = 0

    @property
    def tokens(self) -> int:
        """How many there are, signs between the runs left out."""
        return sum(self.runs)

    @cached_property
    def cells(self) -> Ints:
        """`order` as an array."""
        return np.asarray(self.order, np.int64)


@dataclass(frozen=True)
class Seen:
    """A picture as the vision tower takes it: `pixels` [inputs, 3, height, width], and how its tokens lie.

    `placement` is where the picture lies in its first input.
    """

    pixels: Floats
    placement: Placement
    layout: Layout


@dataclass(frozen=True)
class Way:
    """How a picture is to be seen: as the published code does, and in as many inputs as the family makes.

    With `one` it is a single input whatever its size.
    """

    published: bool = False
    one: bool = False
