"""What data that is BMP, TIFF, AVIF or HEIC says of itself, read as structure.py reads its four formats.

Knows bytes only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from vicrop_engine.errors import ImageError
from vicrop_engine.images.structure import MEDIA_TYPES, Structure, at_most, kind_of, read_structure

OTHERS = ("BMP", "TIFF", "AVIF", "HEIF")
MAX_ENTRIES = 512  # of a TIFF's directory; a picture has some twenty
MAX_PAGES = 1_000  # of a TIFF
MAX_STRIPS = 100_000  # of a TIFF, or tiles
MAX_SIZES = 4_096  # of an AVIF or HEIC: each of its tiles may declare one

_WIDTH, _HEIGHT, _STRIPS, _TILES = 256, 257, 273, 324
_AVIF, _AVIF_MOVING = {b"avif"}, {b"avis"}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"mif1"}
_HEIF_MOVING = {b"hevc", b"hevx", b"hevm", b"hevs", b"msf1"}


def any_kind_of(data: bytes) -> str | None:
    """Pillow's name of the format by the first bytes, or None."""
    if (kind := kind_of(data)) is not None:
        return kind
    if data[:2] == b"BM":
        return "BMP"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "TIFF"
    brands = _brands(data)
    if brands & (_AVIF | _AVIF_MOVING):
        return "AVIF"
    return "HEIF" if brands & (_HEIF | _HEIF_MOVING) else None


def read_any_structure(data: bytes, name: str = "the picture") -> Structure:
    """Kind, size and frames of a picture in any format of structure.py or OTHERS.

    Raises ImageError for other data, a header that breaks off, and more parts than a picture has.
    """
    kind = any_kind_of(data)
    if kind is None:
        raise ImageError(f"{name} is not {', '.join((*MEDIA_TYPES, *OTHERS))}; give one of these")
    if kind in MEDIA_TYPES:
        return read_structure(data, name)
    try:
        return _READERS[kind](data, name)
    except (struct.error, IndexError) as error:
        raise ImageError(f"{name} is damaged (its header breaks off); give a whole picture") from error


def _bmp(data: bytes, name: str) -> Structure:
    if struct.unpack_from("<I", data, 14)[0] == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return Structure("BMP", (abs(width), abs(height)))


def _tiff(data: bytes, name: str) -> Structure:
    order = "<" if data[:2] == b"II" else ">"
    start = struct.unpack_from(f"{order}I", data, 4)[0]
    count = struct.unpack_from(f"{order}H", data, start)[0]
    at_most(count, MAX_ENTRIES, "entries", name)
    size = {_WIDTH: 0, _HEIGHT: 0}
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", data, entry)
        if tag in size:
            size[tag] = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, entry + 8)[0]
        elif tag in (_STRIPS, _TILES):
            at_most(number, MAX_STRIPS, "strips", name)
    return Structure("TIFF", (size[_WIDTH], size[_HEIGHT]), _pages(data, order, start, name) > 1)


def _pages(data: bytes, order: str, start: int, name: str) -> int:
    """How many directories follow each other, which may be a circle."""
    for count in range(MAX_PAGES + 2):
        at_most(count, MAX_PAGES, "pages", name)
        if start == 0:
            return count
        entries = struct.unpack_from(f"{order}H", data, start)[0]
        start = struct.unpack_from(f"{order}I", data, start + 2 + 12 * entries)[0]
    raise AssertionError("more pages than there may be are refused")


def _boxed(kind: str, moving: set[bytes]) -> Callable[[bytes, str], Structure]:
    """The reader of a format in ISO's boxes, whose largest declared size is the picture's."""

    def read(data: bytes, name: str) -> Structure:
        width = height = 0
        place = data.find(b"ispe")
        for count in range(MAX_SIZES + 2):
            at_most(count, MAX_SIZES, "sizes", name)
            if place < 0:
                break
            across, down = struct.unpack_from(">II", data, place + 8)
            width, height = max(width, across), max(height, down)
            place = data.find(b"ispe", place + 4)
        return Structure(kind, (width, height), data[8:12] in moving)

    return read


def _brands(data: bytes) -> set[bytes]:
    """What the first box of an ISO file says that it is compatible with; none where it is no such file."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), len(data), 256)
    return {data[at : at + 4] for at in (8, *range(16, end, 4))}


_READERS: dict[str, Callable[[bytes, str], Structure]] = {
    "BMP": _bmp,
    "TIFF": _tiff,
    "AVIF": _boxed("AVIF", _AVIF_MOVING),
    "HEIF": _boxed("HEIF", _HEIF_MOVING),
}
