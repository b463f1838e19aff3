"""Opening pictures: any accepted input becomes upright 8-bit RGB, or one sentence saying why it cannot.

Transparency is composited over white, as the processors of transformers do; 16-bit values are scaled to
8 bits, see deep.py; of an animation the first frame is taken. Knows nothing of models.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from vicrop_engine.errors import ImageError, NotEnoughMemoryError, not_enough_memory, ran_out_of_memory
from vicrop_engine.images.decoding import decoding_bytes
from vicrop_engine.images.deep import deep_grey, is_deep_colour, is_deep_grey, notices_of_depth
from vicrop_engine.images.frames import first_frame, notices_of_frames
from vicrop_engine.images.geometry import Box
from vicrop_engine.images.heif import HEIF, INSTALL, reads_heif
from vicrop_engine.images.other_structure import OTHERS, any_kind_of, read_any_structure
from vicrop_engine.images.structure import MEDIA_TYPES, read_structure

ImageInput = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]

MAX_PIXELS = 150_000_000

FEWEST_PIXELS = 2  # a picture may be one wide

COMMON_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM")  # those Pillow knows without loading all its plugins

RARE_FORMATS = ("WEBP", "TIFF", "AVIF", "JPEG2000", "ICO", HEIF)

_SCHEMES = ("http:", "https:", "file:")

_ROWS = 64  # of a large picture converted at a time

_DAMAGED = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, LookupError),
    *(RuntimeError, TypeError, ArithmeticError, AttributeError, AssertionError),  # of TIFF, AVIF and HEIC
)


@dataclass(frozen=True)
class Picture:
    """An upright RGB picture and what the user should be told about how it was read."""

    image: Image.Image
    notices: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.size

    def crop(self, box: Box, parts: Sequence[Box] = ()) -> Picture:
        """The part inside `box` (x0, y0, x1, y1, half open); with `parts` black outside these."""
        if not parts:
            return Picture(self.image.crop(box))
        shown = Image.new("RGB", (box[2] - box[0], box[3] - box[1]))
        for part in parts:
            shown.paste(self.image.crop(part), (part[0] - box[0], part[1] - box[1]))
        return Picture(shown)


@dataclass(frozen=True)
class Header:
    """What is known before a pixel is decoded: size as it lies there, bytes that decoding takes."""

    size: tuple[int, int]
    decoding_bytes: int


@dataclass(frozen=True)
class ImageLimits:
    """What is decoded: formats by Pillow's names, pixels (width times height), bytes of the encoded picture.

    With `trusted` False the data's structure is read before anything else: formats of structure.py and
    other_structure.py only, no more parts than a picture has, and no `animations` unless they are allowed.
    """

    formats: tuple[str, ...] = COMMON_FORMATS + RARE_FORMATS
    max_pixels: int = MAX_PIXELS
    max_bytes: int | None = None
    trusted: bool = True
    animations: bool = False


OWN_FILES = ImageLimits()

FROM_STRANGERS = ImageLimits(tuple(MEDIA_TYPES), 50_000_000, 20 * 2**20, trusted=False)

ALL_FROM_STRANGERS = replace(FROM_STRANGERS, formats=(*MEDIA_TYPES, *OTHERS), animations=True)


def open_picture(
    source: ImageInput, limits: ImageLimits = OWN_FILES, *, name: str = "the picture"
) -> Picture:
    """Read a path, encoded bytes, a Pillow image or a uint8 array [height, width, 3].

    `name` is what errors call it where it has no path. Data from people who are not known is read with
    `limits` FROM_STRANGERS. Raises ImageError for anything
    missing, unreadable, damaged, beyond the limits or of fewer than FEWEST_PIXELS.
    """
    if isinstance(source, np.ndarray):
        return _checked(_from_array(source), "the array", limits)
    if isinstance(source, Image.Image):
        return _converted(source, name, limits)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decoded(bytes(source), name, limits)
    if isinstance(source, (str, os.PathLike)):
        return _decoded(read_picture(Path(source)), str(source), limits)
    raise ImageError(
        f"got {type(source).__name__} as a picture, wanted a path, bytes, a Pillow image or a uint8 array"
    )


def picture_size(
    source: ImageInput, limits: ImageLimits = OWN_FILES, *, name: str = "the picture"
) -> tuple[int, int]:
    """Width and height of a picture as it lies there, not turned upright; encoded bytes are not decoded.

    They are checked in every way that needs no pixel. Raises ImageError for anything unreadable, beyond the
    limits or of fewer than FEWEST_PIXELS.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _opened(bytes(source), name, limits).size
    return open_picture(source, limits).size


def picture_header(data: bytes, limits: ImageLimits = OWN_FILES, *, name: str = "the picture") -> Header:
    """Size and memory of encoded bytes, which are checked in every way that needs no pixel.

    Raises ImageError as `picture_size`.
    """
    image = _opened(data, name, limits)
    return Header(image.size, decoding_bytes(image, data))


def read_picture(path: Path) -> bytes:
    """The bytes of a file. Raises ImageError when there is none, or it cannot be read."""
    if path.parts and path.parts[0].lower() in _SCHEMES:
        raise ImageError(f"{path} is a URL, which is not fetched; give the path of a picture, or its bytes")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist; give the path of a picture") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{path} cannot be read ({reason}); give the path of a picture") from error


def _decoded(data: bytes, name: str, limits: ImageLimits) -> Picture:
    return _converted(_opened(data, name, limits), name, limits, own=True)


def _opened(data: bytes, name: str, limits: ImageLimits) -> Image.Image:
    """Checked as far as the header goes; no pixel is decoded, or given memory, yet."""
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); give a picture")
    if limits.max_bytes is not None and len(data) > limits.max_bytes:
        raise ImageError(
            f"{name} has {len(data)} bytes and the limit is {limits.max_bytes}; give a smaller one"
        )
    if not limits.trusted:
        _check_structure(data, name, limits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = _identified(data, limits.formats)
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large(name, "more", limits)) from error
    except UnidentifiedImageError as error:
        known = ", ".join(limits.formats)
        raise ImageError(f"{name} is not a picture in a known format ({known})") from error
    except _DAMAGED as error:
        raise _failure(error, name) from error
    _check_size(image.size, name, limits)
    return image


def _check_structure(data: bytes, name: str, limits: ImageLimits) -> None:
    has_others = {*OTHERS} & {*limits.formats}
    structure = read_any_structure(data, name) if has_others else read_structure(data, name)
    if structure.kind not in limits.formats:
        raise ImageError(f"{name} is {structure.kind}; give {', '.join(limits.formats)}")
    if structure.animated and not limits.animations:
        raise ImageError(f"{name} is an animation; give one frame of it")
    _check_size(structure.size, name, limits)


def _identified(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    common = [kind for kind in formats if kind in COMMON_FORMATS]
    rare = [kind for kind in formats if kind not in COMMON_FORMATS]
    try:
        return Image.open(io.BytesIO(data), formats=common)
    except UnidentifiedImageError:
        if HEIF in rare and any_kind_of(data) == HEIF and not reads_heif():
            message = f"the picture is HEIC, which pillow-heif reads: run {INSTALL}, or give JPEG or PNG"
            raise ImageError(message) from None
        Image.init()
        return Image.open(io.BytesIO(data), formats=[kind for kind in rare if kind in Image.OPEN])


def _converted(image: Image.Image, name: str, limits: ImageLimits, *, own: bool = False) -> Picture:
    """Upright and RGB; a picture of our `own` is changed in place, for each copy may have gigabytes."""
    _check_size(image.size, name, limits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            notices = notices_of_frames(image, name)
            image = first_frame(image)
            colour = is_deep_colour(image)
            image.load()
            notices += notices_of_depth(image, name, colour=colour)
            image = _to_rgb(_upright(image, own=own), own=own)
    except _DAMAGED as error:
        raise _failure(error, name) from error
    image.info.clear()  # texts and profiles, which may be larger than the pixels
    return _checked(image, name, limits, notices)


def _upright(image: Image.Image, *, own: bool) -> Image.Image:
    try:
        if own:
            ImageOps.exif_transpose(image, in_place=True)
            return image
        return ImageOps.exif_transpose(image)
    except _DAMAGED as error:
        if ran_out_of_memory(error):
            raise
        return image


def _to_rgb(image: Image.Image, *, own: bool) -> Image.Image:
    if own and image.mode == "RGB" and "transparency" not in image.info:
        return image._new(image.im)  # the pixels alone: a copy has as much again
    if is_deep_grey(image):
        return deep_grey(image)
    if image.mode != "LAB" and ({"A", "a"} & set(image.getbands()) or "transparency" in image.info):
        return _over_white(image)
    return image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    width, height = image.size
    result = Image.new("RGB", image.size)
    for top in range(0, height, _ROWS):
        layered = image.crop((0, top, width, min(height, top + _ROWS))).convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        result.paste(Image.alpha_composite(white, layered).convert("RGB"), (0, top))
    return result


def _from_array(array: npt.NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ImageError(f"got an array {[*array.shape]} of {array.dtype}, wanted uint8 [height, width, 3]")
    return Image.fromarray(np.ascontiguousarray(array))


def _checked(image: Image.Image, name: str, limits: ImageLimits, notices: tuple[str, ...] = ()) -> Picture:
    _check_size(image.size, name, limits)
    return Picture(image, notices)


def _check_size(size: tuple[int, int], name: str, limits: ImageLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise ImageError(_too_large(name, f"{width} x {height}", limits))
    if width * height < FEWEST_PIXELS:
        raise ImageError(f"{name} is {width} x {height} pixels, too small to ask about; give a larger one")


def _too_large(name: str, got: str, limits: ImageLimits) -> str:
    limit = f"{limits.max_pixels / 1_000_000:g} million"
    return f"{name} has {got} pixels and the limit is {limit}; give a smaller one"


def _failure(error: Exception, name: str) -> ImageError | NotEnoughMemoryError:
    if ran_out_of_memory(error):
        return not_enough_memory(f"to decode {name}")
    return ImageError(f"{name} is damaged ({_reason(error)}); give a whole picture")


def _reason(error: BaseException) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__
