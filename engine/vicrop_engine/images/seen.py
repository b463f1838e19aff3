"""What a picture becomes for a model: inputs of its vision tower, and where its tokens stand and lie.

Plain records; which family makes what of a picture is in `families`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from vicrop_engine.arrays import Floats, Ints
from vicrop_engine.images.geometry import Grid, Placement
from vicrop_engine.images.preprocessing import pixel_digest

PIXELS = "pixel_values"  # what the graph of a vision tower calls whole square inputs


@dataclass(frozen=True)
class VisionInputs:
    """What the vision graph takes of one picture, by name.

    Those of square inputs, `pixel_values` [inputs, 3, height, width] alone, may share a run with other
    pictures'; arrays of a picture's own sizes go through the graph by themselves. `sizes` are those that the
    graph's work grows with, by its names for them, and the `tokens` that come of them.

    `picked` [tokens] says which embeddings of square inputs are the picture's, in their order: rows are
    counted through all inputs and on through the engine's extra ones. Without it all inputs' are taken.

    `instruction` are the ids of the text that the vision part reads with the picture, where it reads one.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    sizes: Mapping[str, int] = field(default_factory=dict)
    picked: Ints | None = None
    instruction: tuple[int, ...] | None = None

    @classmethod
    def of_pixels(cls, pixels: Floats, picked: Ints | None = None) -> VisionInputs:
        """Of square inputs."""
        return cls({PIXELS: pixels}, picked=picked)

    @property
    def pixels(self) -> Floats:
        """Those of square inputs [inputs, 3, height, width]. Raises ValueError for others."""
        if not self.are_square:
            raise ValueError(f"got inputs {', '.join(self.arrays)}, wanted {PIXELS} alone")
        return self.arrays[PIXELS]

    def asked(self, instruction: tuple[int, ...]) -> VisionInputs:
        """The same with an instruction, which the digest does not depend on."""
        other = replace(self, instruction=instruction)
        other.__dict__["digest"] = self.digest  # computed once for all instructions
        return other

    @property
    def are_square(self) -> bool:
        """Whether other pictures' may follow them in one run."""
        return list(self.arrays) == [PIXELS]

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(array.nbytes for array in self.arrays.values())

    @cached_property
    def digest(self) -> bytes:
        """A digest of names, shapes and values; pictures of the same pixels may be packed in two ways.

        It is what the vision tower's embeds depend on, and so knows nothing of an instruction.
        """
        if self.are_square and self.picked is None:
            return pixel_digest(self.pixels)
        digest = hashlib.blake2b(digest_size=32)
        picked = {} if self.picked is None else {"picked": self.picked}
        for name, array in (*self.arrays.items(), *picked.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.digest()

    @property
    def key(self) -> bytes:
        """What the picture's embeds depend on: the digest, and the instruction where there is one."""
        if self.instruction is None:
            return self.digest
        return self.digest + np.asarray(self.instruction, np.int64).tobytes()


@dataclass(frozen=True)
class Layout:
    """A picture's tokens: in a prompt, in runs of `runs` tokens; on the picture, as cells of `grid`.

    `text` stands for the picture in a prompt's template, with the family's placeholder once for each run;
    `closing` is how many tokens of it come after the last run. `order` [rows * cols] says which of the
    picture's tokens is which cell, row by row; where cells are mixed of all tokens, it is all of these.
    `offsets` [axes, tokens] are the tokens' positions, counted from where the picture begins; without any
    they are counted one by one like text.
    """

    text: str
    runs: tuple[int, ...]
    grid: Grid
    order: tuple[int, ...]
    closing: int = 0
    offsets: tuple[tuple[int, ...], ...] | None = None

    @property
    def tokens(self) -> int:
        """How many there are, signs between the runs left out."""
        return sum(self.runs)

    @cached_property
    def cells(self) -> Ints:
        """`order` as an array."""
        return np.asarray(self.order, np.int64)

    @cached_property
    def positions(self) -> Ints | None:
        """`offsets` as an array."""
        return None if self.offsets is None else np.asarray(self.offsets, np.int64)


@dataclass(frozen=True)
class Seen:
    """A picture as the vision tower takes it, and how its tokens lie.

    `placement` is where the picture lies in its first input.
    """

    inputs: VisionInputs
    placement: Placement
    layout: Layout

    def asked(self, instruction: tuple[int, ...] | None) -> Seen:
        """The same picture, read with this instruction; None where the vision part reads none."""
        return self if instruction is None else replace(self, inputs=self.inputs.asked(instruction))


@dataclass(frozen=True)
class Way:
    """How a picture is to be seen: as the published code does, and in as many inputs as the family makes.

    With `one` it is a single input whatever its size. Where the family sees pictures in their own size, it is
    scaled to `least_pixels` and to `most_pixels` as far as the family's own bounds allow.
    """

    published: bool = False
    one: bool = False
    least_pixels: int = 0
    most_pixels: int | None = None


def square_noise(random: np.random.RandomState, side: int) -> VisionInputs:
    """One square input [1, 3, side, side] of noise in whole 64ths, from -2 up to 2."""
    pixels = random.randint(-128, 128, (1, 3, side, side)).astype(np.float32) / np.float32(64)
    return VisionInputs.of_pixels(pixels)
