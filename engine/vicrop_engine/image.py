"""Opening pictures: any accepted input becomes upright 8-bit RGB, or one sentence saying why it cannot.

Transparency is composited over white, as the processors of transformers do; 16-bit values are scaled to
8 bits; of an animation the first frame is taken. Knows nothing of models or of what they are fed.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from vicrop_engine.errors import ImageError

ImageInput = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]

MAX_PIXELS = 150_000_000
MIN_SIDE = 2
COMMON_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM")  # those Pillow knows without loading all its plugins
RARE_FORMATS = ("WEBP", "TIFF", "AVIF", "JPEG2000", "ICO")
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError, MemoryError)


@dataclass(frozen=True)
class Picture:
    """An upright RGB picture and what the user should be told about how it was read."""

    image: Image.Image
    notices: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.size

    def crop(self, box: Box) -> Picture:
        """The part inside `box` (x0, y0, x1, y1, half open)."""
        return Picture(self.image.crop(box))


def open_picture(source: ImageInput) -> Picture:
    """Read a path, encoded bytes, a Pillow image or a uint8 array [height, width, 3].

    Raises ImageError for anything missing, unreadable, damaged, over MAX_PIXELS or under MIN_SIDE a side.
    """
    if isinstance(source, np.ndarray):
        return _checked(Picture(_from_array(source)), "the array")
    if isinstance(source, Image.Image):
        return _converted(source, "the picture")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decoded(bytes(source), "the picture")
    if isinstance(source, (str, os.PathLike)):
        return _decoded(read_picture(Path(source)), str(source))
    raise ImageError(
        f"got {type(source).__name__} as a picture, wanted a path, bytes, a Pillow image or a uint8 array"
    )


def picture_size(source: ImageInput) -> tuple[int, int]:
    """Width and height of a picture as it lies there, not turned upright; encoded bytes are not decoded.

    Raises ImageError for anything unreadable, over MAX_PIXELS or under MIN_SIDE a side.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        size = _opened(bytes(source), "the picture").size
        _check_size(size, "the picture")
        return size
    return open_picture(source).size


def read_picture(path: Path) -> bytes:
    """The bytes of a file. Raises ImageError when there is none, or it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist; give the path of a picture") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{path} cannot be read ({reason}); give the path of a picture") from error


def _decoded(data: bytes, name: str) -> Picture:
    return _converted(_opened(data, name), name)


def _opened(data: bytes, name: str) -> Image.Image:
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); give a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _identified(data)
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large(name, "more")) from error
    except UnidentifiedImageError as error:
        known = ", ".join(COMMON_FORMATS + RARE_FORMATS)
        raise ImageError(f"{name} is not a picture in a known format ({known})") from error
    except _DAMAGED as error:
        raise ImageError(f"{name} is damaged ({_reason(error)}); give a whole picture") from error


def _identified(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=COMMON_FORMATS)
    except UnidentifiedImageError:
        Image.init()
        rare = [kind for kind in RARE_FORMATS if kind in Image.OPEN]
        return Image.open(io.BytesIO(data), formats=rare)


def _converted(image: Image.Image, name: str) -> Picture:
    _check_size(image.size, name)
    notices: tuple[str, ...] = ()
    if getattr(image, "is_animated", False) and image.format != "MPO":
        notices = (f"{name} has {getattr(image, 'n_frames', 2)} frames; only the first is looked at",)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = _first_frame(image)
            image.load()
            return _checked(Picture(_to_rgb(_upright(image)), notices), name)
    except _DAMAGED as error:
        raise ImageError(f"{name} is damaged ({_reason(error)}); give a whole picture") from error


def _first_frame(image: Image.Image) -> Image.Image:
    """The first frame, with the caller's own picture left at the frame it stands at."""
    position = image.tell()
    if position == 0:
        return image
    image.seek(0)
    first = image.copy()
    image.seek(position)
    return first


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGED:
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _deep_grey(image)
    if image.mode != "LAB" and ({"A", "a"} & set(image.getbands()) or "transparency" in image.info):
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    """One channel of more than 8 bits: 16-bit integers over 257; floats from 0..1, else taken as 0..255."""
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        values = np.nan_to_num(values, nan=0.0, posinf=255.0, neginf=0.0)
        values = values * 255.0 if values.max() <= 1.0 else values
    else:
        values = values / 257.0
    grey = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _from_array(array: npt.NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ImageError(f"got an array {[*array.shape]} of {array.dtype}, wanted uint8 [height, width, 3]")
    return Image.fromarray(np.ascontiguousarray(array))


def _checked(picture: Picture, name: str) -> Picture:
    _check_size(picture.size, name)
    return picture


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageError(_too_large(name, f"{width} x {height}"))
    if min(size) < MIN_SIDE:
        raise ImageError(f"{name} is {width} x {height} pixels, too small to ask about; give a larger one")


def _too_large(name: str, got: str) -> str:
    return f"{name} has {got} pixels and the limit is {MAX_PIXELS // 1_000_000} million; give a smaller one"


def _reason(error: BaseException) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__
