"""What decoding takes, as told from a header, against a process that decodes."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, WebPImagePlugin

from vicrop_engine.images.decoding import decoding_bytes, held_bytes
from vicrop_engine.images.picture import open_picture, picture_header

SIZE = (3000, 2000)
DECODES = """
import sys
from pathlib import Path
from vicrop_engine.images.picture import open_picture
def kilobytes(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])
small, large = (Path(name).read_bytes() for name in sys.argv[1:])
open_picture(small)
Path("/proc/self/clear_refs").write_text("5")
before = kilobytes("VmRSS")
picture = open_picture(large)
print((kilobytes("VmHWM") - before) * 1024)
"""
TURNED = Image.Exif()
TURNED[0x0112] = 6
KINDS: dict[str, tuple[str, str, dict[str, object]]] = {
    "JPEG": ("RGB", "JPEG", {}),
    "turned JPEG": ("RGB", "JPEG", {"exif": TURNED}),
    "progressive JPEG": ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    "JPEG for print": ("CMYK", "JPEG", {}),
    "grey JPEG": ("L", "JPEG", {}),
    "PNG": ("RGB", "PNG", {"compress_level": 1}),
    "PNG with alpha": ("RGBA", "PNG", {"compress_level": 1}),
    "PNG with a palette": ("P", "PNG", {"compress_level": 1}),
    "PNG of one bit": ("1", "PNG", {}),
    "PNG of 16 bits": ("I;16", "PNG", {"compress_level": 1}),
    "PNG with one transparent colour": ("RGB", "PNG", {"transparency": (1, 2, 3), "compress_level": 1}),
    "GIF": ("P", "GIF", {}),
    "WebP": ("RGB", "WEBP", {"quality": 50, "method": 0}),
    "WebP without loss": ("RGB", "WEBP", {"lossless": True, "quality": 0, "method": 0}),
    "TIFF": ("RGB", "TIFF", {}),
    "TIFF of floats": ("F", "TIFF", {}),
}


def encoded(kind: str, size: tuple[int, int]) -> bytes:
    """A picture of this kind, with enough going on that its decoder works."""
    mode, name, options = KINDS[kind]
    noise = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    image = Image.fromarray(noise).resize(size)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    file = io.BytesIO()
    image.convert(mode).save(file, name, **options)
    return file.getvalue()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")
@pytest.mark.parametrize("kind", KINDS)
def test_decoding_stays_within_what_the_header_tells(kind: str, tmp_path: Path) -> None:
    """And takes no less than a third of it, or nothing would be told."""
    (tmp_path / "small").write_bytes(encoded(kind, (30, 20)))
    (tmp_path / "large").write_bytes(encoded(kind, SIZE))
    command = [sys.executable, "-c", DECODES, str(tmp_path / "small"), str(tmp_path / "large")]
    taken = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    told = picture_header((tmp_path / "large").read_bytes()).decoding_bytes
    assert told / 6 < taken < told + MARGIN


MARGIN = 4 << 20  # bytes of Python itself


@pytest.mark.parametrize("kind", KINDS)
def test_no_pixel_is_decoded_to_tell(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(kind, (64, 64))

    def decoding(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoding)
    monkeypatch.setattr(WebPImagePlugin.WebPImageFile, "load", decoding)
    assert picture_header(data).decoding_bytes >= held_bytes((64, 64))


def test_a_png_with_exif_behind_its_pixels_counts_as_turned() -> None:
    plain = encoded("PNG", (64, 64))
    end = plain.index(b"IEND") - 4
    body = b"eXIf" + TURNED.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    turned = plain[:end] + chunk + plain[end:]
    assert picture_header(turned).decoding_bytes == 2 * picture_header(plain).decoding_bytes
    assert open_picture(turned).size == (64, 64)


def test_a_jpeg_of_separate_scans_is_told_from_its_parts() -> None:
    """One scan a component, none of them progressive: all coefficients are kept until the last."""
    whole = encoded("JPEG", (64, 64))
    with Image.open(io.BytesIO(whole)) as image:
        one, several = decoding_bytes(image, whole), decoding_bytes(image, separated(whole))
    assert several - one == 64 * 64 * (4 + 2 * 3 - 4)


def separated(jpeg: bytes) -> bytes:
    """The same segments with two more scans announced."""
    at = jpeg.index(b"\xff\xda")
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x00"
    return jpeg[:at] + scan + scan + jpeg[at:]


def test_a_header_whose_exif_cannot_be_read_counts_as_turned() -> None:
    data = encoded("JPEG", (64, 64))
    with Image.open(io.BytesIO(data)) as image:
        plain = decoding_bytes(image, data)
        image.info["exif"] = b"Exif\x00\x00broken"
        image._exif = None
        assert decoding_bytes(image, data) == 2 * plain == 2 * held_bytes((64, 64))
