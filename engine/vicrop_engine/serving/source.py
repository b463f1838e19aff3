"""What a request's picture is, before it is decoded: its content's digest and its size."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vicrop_engine.image import ImageInput, Picture, open_picture, picture_size, read_picture
from vicrop_engine.preprocessing import ModelInput


@dataclass(frozen=True)
class Source:
    """A picture as it was given, files read; `name` is what errors call it."""

    image: ImageInput
    digest: bytes
    size: tuple[int, int]


@dataclass(frozen=True)
class OpenedPicture:
    """A decoded picture, and the same as the vision tower takes it."""

    picture: Picture
    seen: ModelInput

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        width, height = self.picture.size
        return 4 * width * height + self.seen.pixels.nbytes  # Pillow gives RGB four bytes a pixel


def source_of(image: ImageInput) -> Source:
    """Read what was given, without decoding it. Raises ImageError for what is missing or no picture."""
    if isinstance(image, str | os.PathLike):
        image = read_picture(Path(image))
    size = picture_size(image)
    if isinstance(image, bytes | bytearray | memoryview):
        content, kind = bytes(image), "encoded"
        return Source(content, _digest(kind, content), size)
    picture = open_picture(image)
    pixels = np.ascontiguousarray(np.asarray(picture.image))
    return Source(picture.image, _digest(f"pixels {pixels.shape}", pixels.data), size)


def _digest(kind: str, content: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(kind.encode(), digest_size=32)
    digest.update(content)
    return digest.digest()
