"""The smallest square around a box, so that its crop is not deformed at the model's input."""

from __future__ import annotations

from vicrop_engine.image import Box


def covering_square(box: Box, size: tuple[int, int]) -> Box:
    """The smallest square that holds `box`, centred on it and pushed inside a picture of `size` (w, h).

    Where the picture is narrower than the square, all of that side is taken.
    """
    x0, y0, x1, y1 = box
    side = max(x1 - x0, y1 - y0)
    left, right = _span(x0, x1, side, size[0])
    top, bottom = _span(y0, y1, side, size[1])
    return left, top, right, bottom


def _span(start: int, stop: int, side: int, length: int) -> tuple[int, int]:
    side = min(side, length)
    first = min(max(start - (side - (stop - start)) // 2, 0), length - side)
    return first, first + side
