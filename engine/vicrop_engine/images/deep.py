"""Pictures of more than 8 bits a channel: how they become 8 bits, and what should be said of it.

Values keep the meaning that their format gives them, as with every other reader: a camera's 12 bits in a
file of 16 are a sixteenth of full brightness. Nobody sees such a picture well, so it is said.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

DEPTHS = (8, 10, 12, 14)  # of cameras and scanners whose files have 16
FULL = 65535
ROWS = 256  # of a large picture converted at a time


def is_deep_grey(image: Image.Image) -> bool:
    """Whether it is one channel of more than 8 bits."""
    return image.mode.startswith("I;16") or image.mode in ("I", "F")


def is_deep_colour(image: Image.Image) -> bool:
    """Whether its file has channels of 16 bits, of which Pillow keeps 8; known until it is loaded."""
    return image.mode != "P" and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def deep_grey(image: Image.Image) -> Image.Image:
    """16-bit integers over 257; floats from 0..1, else taken as 0..255."""
    values = np.asarray(image)
    over = 257.0
    if image.mode == "F":
        values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=255.0, neginf=0.0)
        over = 1.0
        values = values * 255.0 if values.max() <= 1.0 else values
    grey = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), ROWS):
        rows = values[top : top + ROWS].astype(np.float64) / over
        grey[top : top + ROWS] = np.clip(np.rint(rows), 0, 255)
    return Image.fromarray(grey).convert("RGB")


def notices_of_depth(image: Image.Image, name: str, *, colour: bool) -> tuple[str, ...]:
    """What to say of a loaded picture whose values fill little of their range, or more than it.

    `colour` says that its channels had 16 bits.
    """
    if is_deep_grey(image):
        low, high = (float(value) for value in image.getextrema())  # type: ignore[arg-type]
        return _of_values(name, low, high, floats=image.mode == "F")
    if not colour:
        return ()
    bands = [band for band in image.getbands() if band not in ("A", "a")]
    highest = max(int(np.asarray(image.getchannel(band)).max()) for band in bands)
    return _dark(name, highest * 256 + 255) if highest else ()


def _of_values(name: str, low: float, high: float, *, floats: bool) -> tuple[str, ...]:
    limit, meant = (255, "0 to 1 or 0 to 255") if floats else (FULL, f"0 to {FULL}")
    if high > limit or low < 0:
        return (
            f"{name} holds values from {low:g} to {high:g} and is read as {meant}: what is beyond is black "
            "or white; scale it to 8 bits and give it again",
        )
    return () if floats or high <= 0 else _dark(name, int(high))


def _dark(name: str, high: int) -> tuple[str, ...]:
    """Said where the highest of 16 bits' values would fit a camera's lesser depth."""
    depth = next((bits for bits in DEPTHS if high < 1 << bits), None)
    if depth is None:
        return ()
    factor = 1 << (16 - depth)
    return (
        f"{name} holds values up to {high} in 16 bits, as a depth of {depth} bits gives them: it is looked "
        f"at as dark as that, {high / FULL:.1%} of full brightness; multiply its values by {factor} "
        "and give it again",
    )
