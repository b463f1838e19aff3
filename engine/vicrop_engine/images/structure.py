"""What an encoded picture says of itself, read without decoding a pixel: kind, size, frames, parts.

For data from people who are not known: formats that are all parts and no picture cost a decoder seconds or
gigabytes, so parts are counted here first, in time and memory bounded by the counts below. Knows four
formats (PNG ISO/IEC 15948, JPEG ITU-T T.81, GIF89a, WebP RFC 9649); whether the data is whole, the decoder
says later.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from vicrop_engine.errors import ImageError

MAX_CHUNKS = 20_000  # of a PNG; encoders write 8 KiB or more into each
MAX_SEGMENTS = 2_000  # of a JPEG, before and between its scans
MAX_SCANS = 64  # of a JPEG; encoders make about ten
MAX_SCANNED_PIXELS = 1_000_000_000  # pixels times scans: each scan goes over the whole picture again
MAX_BLOCKS = 100_000  # of a GIF, of up to 255 bytes each
MAX_FRAMES = 5_000  # of a GIF
MAX_JUNK = 4_096  # bytes between two segments of a JPEG
MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}

_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff])")
_JPEG_SCAN_END = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE = {0x01, 0xC8, *range(0xD0, 0xD9), *range(0xF0, 0xFE)}  # without a length of their own, to Pillow
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9


@dataclass(frozen=True)
class Structure:
    """What the data declares: kind by Pillow's name, width and height in pixels, several frames or not.

    `scans` are those of a JPEG.
    """

    kind: str
    size: tuple[int, int]
    animated: bool = False
    scans: int = 1


def kind_of(data: bytes) -> str | None:
    """PNG, JPEG, WEBP or GIF by the first bytes, or None."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return "GIF" if data[:6] in (b"GIF87a", b"GIF89a") else None


def read_structure(data: bytes, name: str = "the picture") -> Structure:
    """Kind, size and frames of a PNG, JPEG, WebP or GIF.

    Raises ImageError for other data, a header that breaks off, and more parts than a picture has.
    """
    kind = kind_of(data)
    if kind is None:
        raise ImageError(f"{name} is not {', '.join(MEDIA_TYPES)}; give one of these")
    try:
        return _READERS[kind](data, name)
    except (struct.error, IndexError) as error:
        raise ImageError(f"{name} is damaged (its header breaks off); give a whole picture") from error


def _png(data: bytes, name: str) -> Structure:
    if data[12:16] != b"IHDR":
        raise ImageError(f"{name} is damaged (a PNG without a header); give a whole picture")
    size = struct.unpack_from(">II", data, 16)
    position, count, frames = 8, 0, 1
    while position + 8 <= len(data):
        length, chunk = struct.unpack_from(">I4s", data, position)
        if chunk == b"acTL" and position + 12 <= len(data):
            frames = struct.unpack_from(">I", data, position + 8)[0]
        if chunk == b"IEND":
            break
        position, count = position + 12 + length, count + 1
        at_most(count, MAX_CHUNKS, "chunks", name)
    return Structure("PNG", (size[0], size[1]), frames > 1)


def _jpeg(data: bytes, name: str) -> Structure:
    size = (0, 0)
    position = scans = 0
    for count in range(MAX_SEGMENTS + 2):
        at_most(count, MAX_SEGMENTS, "segments", name)
        found = (_JPEG_SCAN_END if scans else _JPEG_MARKER).search(data, position)
        if found is None:
            break
        if not scans and found.end() - position > MAX_JUNK:
            raise ImageError(f"{name} is damaged (no JPEG segments where they belong); give a whole picture")
        marker, position = found[1][0], found.end()
        if marker == _JPEG_END:
            break
        if marker in _JPEG_ALONE:
            continue
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, position + 3)
            size = (max(size[0], width), max(size[1], height))
        scans += marker == _JPEG_SCAN
        at_most(scans, _scans_of(size), "scans", name)
        position += struct.unpack_from(">H", data, position)[0]
    return Structure("JPEG", size, scans=scans)


def _scans_of(size: tuple[int, int]) -> int:
    """How many scans a JPEG of this size may have."""
    return min(MAX_SCANS, max(1, MAX_SCANNED_PIXELS // max(1, size[0] * size[1])))


def _gif(data: bytes, name: str) -> Structure:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _palette(flags)
    frames = count = 0
    while position < len(data) and data[position] != 0x3B:
        if data[position] == 0x2C:
            frames += 1
            at_most(frames, MAX_FRAMES, "frames", name)
            if frames == 1:
                x, y, across, down = struct.unpack_from("<HHHH", data, position + 1)
                width, height = max(width, x + across), max(height, y + down)
            position += 11 + _palette(data[position + 9])
        elif data[position] == 0x21:
            empty = data[position + 1] != 0xFE and data[position + 2] == 0  # Pillow then reads on
            position += 3 if empty else 2
        else:
            position, count = position + 1, count + 1
            at_most(count, MAX_BLOCKS, "blocks", name)
            continue
        position, count = _blocks_end(data, position, count, name)
    return Structure("GIF", (width, height), frames > 1)


def _palette(flags: int) -> int:
    """Bytes of the colour table that a GIF's flags announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks_end(data: bytes, position: int, count: int, name: str) -> tuple[int, int]:
    """Where the row of blocks that begins at `position` ends, and how many blocks there are so far."""
    while position < len(data) and data[position]:
        position += data[position] + 1
        count += 1
        at_most(count, MAX_BLOCKS, "blocks", name)
    return position + 1, count


def _webp(data: bytes, name: str) -> Structure:
    chunk = data[12:16]
    if chunk == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return Structure("WEBP", (width, height), bool(data[20] & 2))
    if chunk == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return Structure("WEBP", ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Structure("WEBP", (width & 0x3FFF, height & 0x3FFF))
    raise ImageError(f"{name} is damaged (a WebP without a picture); give a whole picture")


def at_most(count: int, limit: int, what: str, name: str) -> None:
    """Raises ImageError where a picture has more of something than pictures have."""
    if count > limit:
        raise ImageError(f"{name} has more than {limit} {what}; save it anew as an ordinary picture")


_READERS: dict[str, Callable[[bytes, str], Structure]] = {
    "PNG": _png,
    "JPEG": _jpeg,
    "GIF": _gif,
    "WEBP": _webp,
}
