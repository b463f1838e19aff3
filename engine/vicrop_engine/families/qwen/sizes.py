"""Which size a picture is resized to: whole cells, within bounds of pixels, in its own shape.

As transformers' `smart_resize` of Qwen2VLImageProcessor does; `round` is half to even there and here.
"""

from __future__ import annotations

import math

from vicrop_engine.errors import ImageError

Size = tuple[int, int]  # width, height
MOST_SHAPE = 200  # how many times as long as wide a picture may be


def bounds_of_cells(least: int, most: int) -> tuple[int, int]:
    """How few and how many cells `whole_cells` makes of any picture, where the bounds are in cells too.

    Rounding to whole cells can leave the bounds of pixels, most so for the longest pictures.
    """
    longest = math.isqrt(MOST_SHAPE * most)
    enlarged = least + math.isqrt(MOST_SHAPE * least) + 3
    return max(1, min(least, most - longest - 1)), max(most, longest, enlarged)


def whole_cells(size: Size, side: int, least: int, most: int) -> Size:
    """`size` in cells of `side` pixels, with `least` to `most` pixels in all.

    Raises ImageError for a picture that is longer than MOST_SHAPE times its width.
    """
    width, height = size
    if max(size) > MOST_SHAPE * min(size):
        raise ImageError(
            f"the picture is {width} x {height} pixels, and this model sees none that is more than "
            f"{MOST_SHAPE} times as long as wide; cut it"
        )
    cols, rows = round(width / side), round(height / side)
    if rows * cols * side**2 > most:
        scale = math.sqrt(width * height / most)
        cols, rows = (max(1, math.floor(length / scale / side)) for length in size)
    elif rows * cols * side**2 < least:
        scale = math.sqrt(least / (width * height))
        cols, rows = (math.ceil(length * scale / side) for length in size)
    return cols * side, rows * side
