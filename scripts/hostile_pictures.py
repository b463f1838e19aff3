"""Pictures made to harm whoever opens them: what tests and the soak send. Small to make, small to send."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable

from PIL import Image

HUGE = 65_500  # pixels a side that every one of the four headers can declare, or nearly
WEBP_LARGEST = 16_383
KINDS = ("PNG", "JPEG", "WEBP", "GIF")
OTHER_KINDS = ("BMP", "TIFF", "AVIF", "HEIF")


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The picture in one of KINDS or OTHER_KINDS."""
    if kind == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener(thumbnails=False)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(chance: random.Random, kind: str = "PNG", size: tuple[int, int] = (48, 40)) -> bytes:
    """A whole picture of noise, RGB."""
    image = Image.frombytes("RGB", size, chance.randbytes(size[0] * size[1] * 3))
    return encoded(image.convert("P") if kind == "GIF" else image, kind)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *more: bytes, depth: int = 8, colour: int = 2, data: bytes = b"") -> bytes:
    """A PNG of this header, with `more` chunks before its data."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    ends = chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + ends


def declaring(kind: str, width: int, height: int) -> bytes:
    """A small picture whose header says that it has this size."""
    if kind == "PNG":
        return png(width, height)
    data = bytearray(encoded(Image.new("L" if kind == "GIF" else "RGB", (8, 8)), kind))
    if kind == "GIF":
        size = struct.pack("<HH", width, height)
        data[6:10] = size
        at = data.index(b",\0\0\0\0\x08\0\x08\0") + 5
        data[at : at + 4] = size
    elif kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
    else:
        at = data.index(b"\x9d\x01\x2a") + 3
        data[at : at + 4] = struct.pack("<HH", min(width, WEBP_LARGEST), min(height, WEBP_LARGEST))
    return bytes(data)


def solid_bomb(side: int = 20_000) -> bytes:
    """A whole black picture of one bit a pixel: some fifty kilobytes that become 400 million pixels."""
    return png(side, side, depth=1, colour=0, data=bytes((side // 8 + 1) * side))


def text_bomb() -> bytes:
    """A comment of a few kilobytes that becomes four million bytes."""
    return png(8, 8, chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(4_000_000), 9)), data=bytes(200))


def many_chunks(count: int = 30_000) -> bytes:
    """A PNG of empty chunks."""
    return png(8, 8, *[chunk(b"teSt", b"")] * count, data=bytes(200))


def many_segments(count: int = 5_000) -> bytes:
    """A JPEG of empty comments."""
    whole = encoded(Image.new("RGB", (8, 8)), "JPEG")
    return whole[:2] + b"\xff\xfe\x00\x02" * count + whole[2:]


def many_scans(count: int = 500) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    whole = encoded(Image.new("RGB", (64, 64), (200, 30, 90)), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + whole[-2:]


def junk_before_scan(size: int = 100_000) -> bytes:
    """A JPEG with bytes of no segment in front of its tables."""
    whole = encoded(Image.new("RGB", (8, 8)), "JPEG")
    return whole[:20] + bytes(size) + whole[20:]


def many_blocks(count: int = 150_000) -> bytes:
    """A GIF whose comment comes in blocks of one byte."""
    whole = encoded(Image.new("L", (8, 8)), "GIF")
    start = 13 + (3 << ((whole[10] & 7) + 1) if whole[10] & 0x80 else 0)
    return whole[:start] + b"!\xfe" + b"\x01x" * count + b"\0" + whole[start:]


def animation(kind: str, frames: int = 3) -> bytes:
    """A picture that moves, in a format that can."""
    images = [Image.new("RGB", (16, 16), (40 * number, 9, 9)) for number in range(frames)]
    return encoded(images[0], kind, save_all=True, append_images=images[1:])


def many_frames(count: int = 12_000) -> bytes:
    """A GIF of so many tiny frames."""
    whole = encoded(Image.new("L", (8, 8)), "GIF")
    frame = b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0"
    return whole[:-1] + frame * count + whole[-1:]


def many_entries(count: int = 60_000) -> bytes:
    """A TIFF whose directory has so many entries."""
    entry = struct.pack("<HHII", 256, 4, 1, 8)
    return b"II*\0" + struct.pack("<IH", 8, count) + entry * count + bytes(4)


def many_pages(count: int = 5_000) -> bytes:
    """A TIFF whose last page is followed by its first."""
    page = struct.pack("<H", 2) + b"".join(struct.pack("<HHII", tag, 4, 1, 8) for tag in (256, 257))
    after = (8 + (number + 1) % count * (len(page) + 4) for number in range(count))
    return b"II*\0" + struct.pack("<I", 8) + b"".join(page + struct.pack("<I", at) for at in after)


def many_sizes(count: int = 50_000) -> bytes:
    """An AVIF that declares its size again and again."""
    whole = encoded(Image.new("RGB", (8, 8)), "AVIF")
    return whole + struct.pack(">I4sIII", 20, b"ispe", 0, 8, 8) * count


def large_tiff(side: int = 60_000) -> bytes:
    """A TIFF that says it has this size."""
    size = b"".join(struct.pack("<HHII", tag, 4, 1, side) for tag in (256, 257))
    return b"II*\0" + struct.pack("<IH", 8, 2) + size + bytes(4)


def flat(kind: str) -> bytes:
    """A picture without height."""
    return declaring(kind, 8, 0)


def truncated(chance: random.Random, kind: str) -> bytes:
    """The first part of a picture, from one byte to nine tenths."""
    whole = noise(chance, kind)
    return whole[: chance.randint(1, len(whole) * 9 // 10)]


def mutated(chance: random.Random, kind: str) -> bytes:
    """A picture with a few bytes changed; it may still be one."""
    data = bytearray(noise(chance, kind))
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


FLOODS: dict[str, Callable[[], bytes]] = {
    "text": text_bomb,
    "solid": solid_bomb,
    "chunks": many_chunks,
    "segments": many_segments,
    "scans": many_scans,
    "junk": junk_before_scan,
    "blocks": many_blocks,
    "frames": many_frames,
    "entries": many_entries,
    "pages": many_pages,
    "sizes": many_sizes,
    "large tiff": large_tiff,
    "moving gif": lambda: animation("GIF"),
    "moving png": lambda: animation("PNG"),
    "moving webp": lambda: animation("WEBP"),
}
