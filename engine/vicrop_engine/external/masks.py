"""From mask logits at low resolution to boxes in the picture: resize, stability, box, suppression.

Plain arithmetic; knows nothing of files or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vicrop_engine.arrays import Floats
from vicrop_engine.images.geometry import Box

STRIP = 1 << 24  # pixels of a mask that are in memory at once


@dataclass(frozen=True)
class Enlarger:
    """Resizes mask logits [low, low] to the picture: `rows` [height, low] and `cols` [width, low]."""

    rows: Floats
    cols: Floats

    def measure(self, mask: Floats, offset: float) -> tuple[float, Box | None]:
        """Stability of a mask, and the box around its pixels above zero; None for none.

        Stability is the number of pixels above `offset` over that above minus `offset`; 0 without any.
        """
        inside = outside = 0
        across = mask @ self.cols.T
        wide = np.zeros(len(self.cols), bool)
        high = np.zeros(len(self.rows), bool)
        step = max(1, STRIP // len(self.cols))
        for start in range(0, len(self.rows), step):
            strip = self.rows[start : start + step] @ across
            inside += int(np.count_nonzero(strip > offset))
            outside += int(np.count_nonzero(strip > -offset))
            wide |= (strip > 0).any(axis=0)
            high[start : start + step] = (strip > 0).any(axis=1)
        stability = inside / outside if outside else 0.0
        xs, ys = np.flatnonzero(wide), np.flatnonzero(high)
        box = None if xs.size == 0 else (int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1)
        return stability, box


def enlarger(low: int, padded: int, inner: tuple[int, int], size: tuple[int, int]) -> Enlarger:
    """For masks of `low` pixels a side over an input of `padded`, whose corner `inner` holds the picture.

    `inner` and `size`, that of the picture, are width and height. Two bilinear steps, as SAM does.
    """
    up = bilinear(low, padded)
    cols, rows = (
        (bilinear(held, length) @ up[:held]).astype(np.float32)
        for held, length in zip(inner, size, strict=True)
    )
    return Enlarger(rows, cols)


def bilinear(source: int, target: int) -> npt.NDArray[np.float64]:
    """The matrix [target, source] of a bilinear resize that keeps corners, without smoothing."""
    centres = np.maximum((np.arange(target) + 0.5) * (source / target) - 0.5, 0.0)
    low = np.minimum(centres.astype(np.int64), source - 1)
    share = centres - low
    matrix = np.zeros((target, source))
    np.add.at(matrix, (np.arange(target), low), 1.0 - share)
    np.add.at(matrix, (np.arange(target), np.minimum(low + 1, source - 1)), share)
    return matrix


def suppressed(boxes: Sequence[Box], scores: Sequence[float], overlap: float) -> list[Box]:
    """Boxes by falling score without those that share more than `overlap` with one before them."""
    kept: list[Box] = []
    for index in np.argsort(-np.asarray(scores), kind="stable"):
        if all(intersection_over_union(boxes[index], other) <= overlap for other in kept):
            kept.append(boxes[index])
    return kept


def intersection_over_union(first: Box, second: Box) -> float:
    """How much two boxes share, 0 to 1."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(wide, 0) * max(high, 0)
    return shared / (_area(first) + _area(second) - shared)


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
