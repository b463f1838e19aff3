"""Where tokens stand: positions of a text with pictures in it, by axis.

Text is counted one by one, alike on all axes. A picture's tokens stand where its family says, counted from
where the picture begins; what comes after goes on behind the farthest of them (arXiv 2409.12191 section 2.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vicrop_engine.arrays import Ints


def counted(start: int, number: int, axes: int) -> Ints:
    """[axes, number]: `start`, `start + 1`, … on every axis."""
    return np.tile(np.arange(start, start + number, dtype=np.int64), (axes, 1))


def positions_of(
    is_image: npt.NDArray[np.bool_], offsets: Sequence[Ints | None], start: int, axes: int
) -> Ints:
    """[axes, tokens] from `start` on, of tokens that are image tokens or text (`is_image` [tokens]).

    `offsets` are the pictures' own, [axes, tokens of the picture] each, whose tokens follow each other; None
    for one that is counted like text.
    """
    number = len(is_image)
    if all(own is None for own in offsets):
        return counted(start, number, axes)
    parts: list[Ints] = []
    row = 0
    for own in offsets:
        assert own is not None, "a family's pictures all stand in one way"
        first = row + int(np.argmax(is_image[row:]))
        parts.append(counted(start, first - row, axes))
        start += first - row
        parts.append(start + own)
        start, row = start + int(own.max()) + 1, first + own.shape[1]
    return np.concatenate((*parts, counted(start, number - row, axes)), axis=1)


def next_position(positions: Ints) -> int:
    """That of the token after these [axes, tokens]."""
    return int(positions.max()) + 1
