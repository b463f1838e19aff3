"""Pictures by their content: what is asked about again is decoded and preprocessed once.

Knows files and pixels; nothing of what is asked about them.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vicrop_engine.byte_cache import ByteCache
from vicrop_engine.images.picture import ImageInput, Picture, open_picture, picture_size, read_picture
from vicrop_engine.images.preprocessing import ModelInput

Check = Callable[[Picture], None]
Prepare = Callable[[Picture], ModelInput]


@dataclass(frozen=True)
class Source:
    """A picture as it was given, files read, with a digest of its content and its width and height."""

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


class KeptPictures:
    """Opened pictures within `cache_bytes`, by the bytes they were decoded from. Threads may share it."""

    def __init__(self, cache_bytes: int) -> None:
        self._lock = threading.Lock()
        self._cache: ByteCache[OpenedPicture] = ByteCache(cache_bytes)

    def open(self, image: ImageInput, check: Check, prepare: Prepare, way: Hashable) -> OpenedPicture:
        """The picture decoded, checked, and prepared for the vision tower in this `way`.

        Only encoded pictures are kept. Raises ImageError, and what `check` and `prepare` raise.
        """
        name = str(image) if isinstance(image, str | os.PathLike) else "the picture"
        content = read_picture(Path(image)) if isinstance(image, str | os.PathLike) else image
        key = None
        if isinstance(content, bytes | bytearray | memoryview):
            key = _digest("encoded", bytes(content)), name, way
            with self._lock:
                kept = self._cache.get(key)
            if kept is not None:
                check(kept.picture)
                return kept
        picture = open_picture(content, name=name)
        check(picture)
        opened = OpenedPicture(picture, prepare(picture))
        if key is not None:
            with self._lock:
                self._cache.put(key, opened)
        return opened

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._cache.clear()


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
