"""Pictures by their content: what is asked about again is decoded and preprocessed once.

Knows files and pixels; nothing of what is asked about them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vicrop_engine.images.decoding import held_bytes
from vicrop_engine.images.picture import ImageInput, Picture, open_picture, picture_header, read_picture
from vicrop_engine.images.seen import Seen
from vicrop_engine.images.single_flight import SingleFlight, Wait, wait_for

Prepare = Callable[[Picture], Seen]
NAME = "the picture"


@dataclass(frozen=True)
class Source:
    """A picture as it was given: encoded bytes with its files read, or pixels that have been opened.

    `digest` is of its content, `size` its width and height as it lies there, and `name` what errors call it.
    `decoding_bytes` is what decoding it takes, 0 for pixels.
    """

    content: bytes | Picture
    digest: bytes
    size: tuple[int, int]
    name: str = NAME
    decoding_bytes: int = 0


@dataclass(frozen=True)
class OpenedPicture:
    """A decoded picture, and the same as the vision tower takes it."""

    picture: Picture
    seen: Seen

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return held_bytes(self.picture.size) + self.seen.inputs.nbytes


class PictureCache:
    """Opened pictures within `cache_bytes`, by what they were opened from. Threads may share it."""

    def __init__(self, cache_bytes: int) -> None:
        self._opened: SingleFlight[OpenedPicture] = SingleFlight(cache_bytes)

    def open(self, source: Source, prepare: Prepare, way: Hashable, wait: Wait = wait_for) -> OpenedPicture:
        """The picture decoded, and prepared for the vision tower in this `way`.

        Where somebody opens it now, `wait` waits for that. Raises ImageError, and what `prepare` raises.
        """

        def make() -> OpenedPicture:
            content = source.content
            picture = content if isinstance(content, Picture) else open_picture(content, name=source.name)
            return OpenedPicture(picture, prepare(picture))

        return self._opened.get((source.digest, source.name, way), make, wait)

    def widen(self, cache_bytes: int) -> None:
        """Keep as many bytes, if that is more than now."""
        self._opened.cache.capacity = max(self._opened.cache.capacity, cache_bytes)

    def clear(self) -> None:
        """Let go of everything."""
        self._opened.cache.clear()


def source_of(image: ImageInput | Source) -> Source:
    """Read what was given, without decoding files. Raises ImageError for what is no picture or missing."""
    if isinstance(image, Source):
        return image
    name = NAME
    if isinstance(image, str | os.PathLike):
        image, name = read_picture(Path(image)), str(image)
    if isinstance(image, bytes | bytearray | memoryview):
        content = bytes(image)
        header = picture_header(content, name=name)
        return Source(content, _digest("encoded", content), header.size, name, header.decoding_bytes)
    picture = open_picture(image)
    pixels = np.ascontiguousarray(np.asarray(picture.image))
    return Source(picture, _digest(f"pixels {pixels.shape}", pixels.data), picture.size, name)


def _digest(kind: str, content: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(kind.encode(), digest_size=32)
    digest.update(content)
    return digest.digest()
