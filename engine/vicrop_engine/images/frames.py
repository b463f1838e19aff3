"""The first frame of what has several. Knows Pillow's pictures alone."""

from __future__ import annotations

from PIL import Image


def notices_of_frames(image: Image.Image, name: str) -> tuple[str, ...]:
    """What is said of a picture that has several frames."""
    if not getattr(image, "is_animated", False) or image.format == "MPO":
        return ()
    return (f"{name} has {getattr(image, 'n_frames', 2)} frames; only the first is looked at",)


def first_frame(image: Image.Image) -> Image.Image:
    """The first frame, with the caller's own picture left at the frame it stands at."""
    position = image.tell()
    if position == 0:
        return image
    image.seek(0)
    first = image.copy()
    image.seek(position)
    return first
