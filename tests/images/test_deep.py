"""More than 8 bits a channel: the pixels stay what the format says, and what is dark in it is said."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vicrop_engine import ViCropEngine
from vicrop_engine.images.picture import open_picture


def deep(high: int, kind: str = "PNG") -> bytes:
    """An encoded picture of one channel of 16 bits whose highest value is `high`."""
    values = np.linspace(0, high, 30 * 40).astype(np.uint16).reshape(30, 40)
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind)
    return file.getvalue()


def deep_colour(high: int) -> bytes:
    """A PNG of three channels of 16 bits."""
    values = np.linspace(0, high, 8 * 8 * 3).astype(">u2").reshape(8, 8 * 3)
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("high", "depth", "factor"),
    [(255, 8, 256), (1000, 10, 64), (1023, 10, 64), (1024, 12, 16), (4095, 12, 16), (16383, 14, 4)],
)
def test_a_cameras_depth_in_16_bits_is_said(high: int, depth: int, factor: int, kind: str) -> None:
    picture = open_picture(deep(high, kind), name="scan.png")
    (said,) = picture.notices
    assert said.startswith(f"scan.png holds values up to {high} in 16 bits, as a depth of {depth} bits gives")
    assert f"multiply its values by {factor} and give it again" in said
    assert np.asarray(picture.image).max() == round(high / 257)  # as dark as the format says


@pytest.mark.parametrize("high", [0, 16384, 40000, 65535])
def test_what_fills_its_range_is_not_spoken_of(high: int) -> None:
    assert open_picture(deep(high)).notices == ()


def test_what_was_advised_ends_the_notice() -> None:
    values = np.asarray(Image.open(io.BytesIO(deep(4095)))).astype(np.uint16) * 16
    assert open_picture(Image.fromarray(values)).notices == ()


def test_the_same_in_colour() -> None:
    assert "as a depth of 12 bits gives" in open_picture(deep_colour(4095)).notices[0]
    assert open_picture(deep_colour(65535)).notices == ()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.full((9, 9), 4095.0, np.float32), "from 4095 to 4095 and is read as 0 to 1 or 0 to 255"),
        (np.full((9, 9), -0.5, np.float32), "from -0.5 to -0.5 and is read as 0 to 1"),
        (np.full((9, 9), 70_000, np.int32), "from 70000 to 70000 and is read as 0 to 65535"),
        (np.full((9, 9), 3000, np.int32), "as a depth of 12 bits gives"),
    ],
)
def test_values_beyond_the_range_are_said(values: np.ndarray[tuple[int, int]], said: str) -> None:
    (notice,) = open_picture(Image.fromarray(values)).notices
    assert said in notice


@pytest.mark.parametrize("high", [1.0, 200.0])
def test_floats_in_their_range_are_not_spoken_of(high: float) -> None:
    assert open_picture(Image.fromarray(np.full((9, 9), high, np.float32))).notices == ()


def test_the_answer_has_the_notice(engine: ViCropEngine) -> None:
    answer = engine.ask(deep(4000), "What is it?", max_new_tokens=2)
    assert "as a depth of 12 bits gives" in answer.notices[0]
