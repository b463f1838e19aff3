"""The high-pass: bit for bit torch's convolution and a plain median, and only the picture counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from tests.parity import published_pixel_gradient as published
from vicrop_engine.images.geometry import Placement
from vicrop_engine.images.high_pass import high_pass, picture_detail, seen_detail

STD = (0.27, 0.26, 0.28)


def drawn(width: int, height: int) -> Image.Image:
    """Mostly one colour, a block of another and a block of noise."""
    pixels = np.full((height, width, 3), 77, np.uint8)
    pixels[: height // 4, : width // 3] = (200, 30, 30)
    noise = np.random.default_rng(0).integers(0, 256, (height // 3, width // 3, 3), dtype=np.uint8)
    pixels[-noise.shape[0] :, -noise.shape[1] :] = noise
    return Image.fromarray(pixels)


def brightness(height: int, width: int) -> npt.NDArray[np.float32]:
    whole = np.random.default_rng([height, width]).integers(0, 256, (3, height, width))
    return whole.astype(np.float32) / np.float32(255)


def plain_median(values: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """One window after the other; over an edge come the same numbers in turn, the outermost first."""
    height, width = values.shape
    result = np.empty_like(values)
    for y, x in np.ndindex(height, width):
        around = [
            values[published.mirrored(b, height), published.mirrored(a, width)]
            for b in range(y - size // 2, y + size // 2 + 1)
            for a in range(x - size // 2, x + size // 2 + 1)
        ]
        result[y, x] = sorted(around)[len(around) // 2]
    return result


@pytest.mark.parametrize("size", [(336, 336), (24, 17), (2, 31)])
def test_without_the_median_it_is_torch_bit_for_bit(size: tuple[int, int]) -> None:
    pixels = brightness(*size)
    np.testing.assert_array_equal(high_pass(pixels, 1), published.strength(torch.from_numpy(pixels)))


@pytest.mark.parametrize("median", [3, 7])
@pytest.mark.parametrize("size", [(24, 17), (5, 9), (2, 3)])
def test_the_median_is_the_plain_one(size: tuple[int, int], median: int) -> None:
    """Also where windows are larger than the picture."""
    pixels = brightness(*size)
    np.testing.assert_array_equal(high_pass(pixels, median), plain_median(high_pass(pixels, 1), median))


@pytest.mark.parametrize("median", [3, 7])
def test_a_drawn_picture_is_as_published(median: int) -> None:
    """Rounding decides which plain areas count in the published code; it is the same rounding."""
    image = drawn(500, 300)
    passed = published.high_pass(image, 112, median)
    np.testing.assert_array_equal(picture_detail(image, 112, median), passed > np.median(passed))


def test_plain_areas_are_no_detail() -> None:
    pixels = np.asarray(drawn(112, 112), np.float32).transpose(2, 0, 1)[None] / np.float32(255)
    detail = seen_detail(pixels, Placement(0, 0, 112, 112), STD)
    assert detail[80:, 80:].mean() > 0.95
    assert not detail[40:70].any()
    assert not seen_detail(np.ones((1, 3, 40, 40), np.float32), Placement(0, 0, 40, 40), STD).any()


def test_padding_neither_counts_nor_casts_an_edge() -> None:
    rows, whole = slice(20, 90), Placement(0, 0, 112, 70)
    picture = brightness(70, 112)[None]
    padded = np.zeros((1, 3, 112, 112), np.float32)
    padded[:, :, rows] = picture
    detail = seen_detail(padded, Placement(0, 20.2, 112, 69.9), STD)
    np.testing.assert_array_equal(detail[rows], seen_detail(picture, whole, STD))
    assert detail[rows].mean() == pytest.approx(0.5, abs=0.01)
    assert not detail[:20].any()
    assert not detail[90:].any()


@pytest.mark.parametrize(
    "placement",
    [Placement(-60, 0, 232, 112), Placement(0, 55.8, 112, 0.3), Placement(111.9, 0, 0.1, 112)],
    ids=["cut", "a thin row", "a thin column"],
)
def test_any_placement_gives_a_mask(placement: Placement) -> None:
    assert seen_detail(brightness(112, 112)[None], placement, STD).shape == (112, 112)
