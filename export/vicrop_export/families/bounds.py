"""How large a picture may be where a build is told to bound it."""

from __future__ import annotations

from vicrop_engine.errors import SettingError


def refuse_bound(max_pixels: int | None) -> None:
    """For families that see every picture in one size. Raises SettingError where a bound was given."""
    if max_pixels is not None:
        raise SettingError(
            f"got max_pixels {max_pixels}, and this model's pictures have a size of their own; leave it out"
        )


def bounded(max_pixels: int | None, usual: int, cell: int, most: int) -> int:
    """Pixels of the largest picture: `usual` where nothing was asked for, `most` being the processor's own.

    Raises SettingError for less than a `cell` of so many pixels, and for more than `most`.
    """
    if max_pixels is None:
        return min(usual, most)
    if not cell <= max_pixels <= most:
        raise SettingError(
            f"got max_pixels {max_pixels}, wanted {cell} (one token) to {most} (what the checkpoint's image "
            "processor allows)"
        )
    return max_pixels
