"""Pixels: bit for bit those of transformers' Pillow processors, and nothing cut off by the other fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessorPil, LlavaImageProcessorPil

from vicrop_engine.engine_dir.records import Preprocessing
from vicrop_engine.errors import ImageError
from vicrop_engine.images.geometry import Placement
from vicrop_engine.images.preprocessing import (
    fills_input,
    preprocess,
    preprocess_on_patches,
    processor_bytes,
)

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
CENTRE = Preprocessing("shortest_edge", 168, 168, 3, True, 168, 168, 1 / 255, MEAN, STD)
SIZES = [(640, 480), (168, 168), (33, 700), (5, 3), (1000, 999), (169, 170), (335, 336), (2, 2)]
SQUARE = {"height": 168, "width": 168}
EDGE = {"shortest_edge": 168}
CASES: dict[str, tuple[Any, dict[str, Any], Preprocessing]] = {
    "centre crop": (CLIPImageProcessorPil, {"size": EDGE, "crop_size": SQUARE}, CENTRE),
    "exact": (
        CLIPImageProcessorPil,
        {"size": SQUARE, "do_center_crop": False},
        replace(CENTRE, resize="exact", center_crop=False),
    ),
    "padded to a square": (
        LlavaImageProcessorPil,
        {"size": EDGE, "crop_size": SQUARE, "do_pad": True},
        replace(CENTRE, pad_to_square=True),
    ),
    "no resize": (
        CLIPImageProcessorPil,
        {"do_resize": False, "crop_size": SQUARE},
        replace(CENTRE, resize="none"),
    ),
    "crop larger than the resize": (
        CLIPImageProcessorPil,
        {"size": {"shortest_edge": 100}, "crop_size": SQUARE},
        replace(CENTRE, height=100, width=100),
    ),
    "odd crop, bilinear, own statistics": (
        CLIPImageProcessorPil,
        {
            "size": EDGE,
            "crop_size": {"height": 99, "width": 101},
            "resample": 2,
            "image_mean": [0.5, 0.4, 0.3],
            "image_std": [0.5, 0.6, 0.7],
        },
        replace(
            CENTRE, resample=2, crop_height=99, crop_width=101, mean=(0.5, 0.4, 0.3), std=(0.5, 0.6, 0.7)
        ),
    ),
    "no normalising": (
        CLIPImageProcessorPil,
        {"size": EDGE, "crop_size": SQUARE, "do_normalize": False},
        replace(CENTRE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    ),
}


def noise(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(size).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", CASES)
def test_bit_for_bit_the_checkpoint_s_processor(case: str, size: tuple[int, int]) -> None:
    kind, options, settings = CASES[case]
    wanted = kind(**options)(noise(size), return_tensors="np")["pixel_values"]
    result = preprocess(noise(size), settings, "processor")
    assert result.pixels.dtype == np.float32
    assert result.pixels.flags.c_contiguous
    np.testing.assert_array_equal(result.pixels, wanted)


@pytest.mark.parametrize("size", [(640, 480), (200, 900), (500, 500)])
@pytest.mark.parametrize(
    "case", [case for case in CASES if "statistics" not in case and "normalising" not in case]
)
def test_placement_says_where_the_picture_went(case: str, size: tuple[int, int]) -> None:
    """A white dot in a black picture is found where the placement puts it, or outside when it was cut off."""
    settings = CASES[case][2]
    dot = 0.45 * size[0], 0.55 * size[1]
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), (int(dot[0]) - 8, int(dot[1]) - 8, int(dot[0]) + 8, int(dot[1]) + 8))
    result = preprocess(image, settings, "processor")
    place = result.placement
    x = place.left + dot[0] / size[0] * place.width
    y = place.top + dot[1] / size[1] * place.height
    bright = np.argwhere(result.pixels[0].mean(axis=0) > result.pixels.max() - 0.5)
    if case == "no resize" and not (0 <= x < 168 and 0 <= y < 168):
        return
    assert bright.mean(axis=0) == pytest.approx((y, x), abs=1.5)


def test_pad_shows_everything_on_the_mean_colour() -> None:
    result = preprocess(Image.new("RGB", (400, 100), "white"), CENTRE, "pad")
    assert result.placement == Placement(0, 63, 168, 42)
    assert result.pixels.shape == (1, 3, 168, 168)
    assert np.abs(result.pixels[0, :, :63]).max() < 0.02
    assert np.abs(result.pixels[0, :, 105:]).max() < 0.02
    assert (result.pixels[0, :, 63:105] > 1.5).all()


def test_stretch_fills_the_input() -> None:
    result = preprocess(noise((400, 100)), CENTRE, "stretch")
    exact = preprocess(noise((400, 100)), replace(CENTRE, resize="exact", center_crop=False), "processor")
    assert result.placement == Placement(0, 0, 168, 168)
    np.testing.assert_array_equal(result.pixels, exact.pixels)


@pytest.mark.parametrize(
    ("cells", "placement"),
    [((12, 12), (0, 0, 168, 168)), ((7, 12), (0, 28, 168, 98)), ((12, 1), (70, 0, 14, 168))],
)
def test_on_whole_patches(cells: tuple[int, int], placement: tuple[int, ...]) -> None:
    result = preprocess_on_patches(Image.new("RGB", (90, 70), "white"), CENTRE, cells, 14)
    left, top, width, height = placement
    assert result.placement == Placement(left, top, width, height)
    bright = result.pixels[0].min(axis=0) > 1.5
    assert bright[top : top + height, left : left + width].all()
    assert bright.sum() == width * height


def test_on_all_patches_is_stretched() -> None:
    settings = replace(CENTRE, resize="exact", center_crop=False)
    whole = preprocess_on_patches(noise((400, 100)), settings, (12, 12), 14)
    np.testing.assert_array_equal(whole.pixels, preprocess(noise((400, 100)), settings).pixels)


@pytest.mark.parametrize(
    ("settings", "fills"),
    [
        (CENTRE, False),
        (replace(CENTRE, fit="pad"), False),
        (replace(CENTRE, fit="stretch"), True),
        (replace(CENTRE, resize="exact", center_crop=False), True),
        (replace(CENTRE, resize="exact", fit="pad"), False),
        (replace(CENTRE, pad_to_square=True), False),
    ],
)
def test_what_fills_the_input(settings: Preprocessing, fills: bool) -> None:
    assert fills_input(settings) is fills
    whole = Placement(0, 0, 168, 168)
    assert (preprocess(noise((400, 100)), settings).placement == whole) is fills


def test_what_the_processor_takes_besides_is_told_from_the_size() -> None:
    """The longer side grows with the shorter one, and a square has room for the longer."""
    assert processor_bytes((4000, 40), CENTRE) == 4 * 168 * 16_800
    square = replace(CENTRE, pad_to_square=True)
    assert processor_bytes((4000, 40), square) == 4 * (4000**2 + 168**2)


def test_the_settings_own_fit_is_the_default() -> None:
    image = noise((400, 100))
    padded = preprocess(image, replace(CENTRE, fit="pad"))
    np.testing.assert_array_equal(padded.pixels, preprocess(image, CENTRE, "pad").pixels)
    np.testing.assert_array_equal(
        preprocess(image, CENTRE).pixels, preprocess(image, CENTRE, "processor").pixels
    )


@pytest.mark.parametrize("settings", [CENTRE, replace(CENTRE, pad_to_square=True)])
def test_very_long_pictures_are_refused_by_the_processor_and_seen_by_pad(settings: Preprocessing) -> None:
    image = Image.new("RGB", (60000, 2))
    with pytest.raises(ImageError, match="too long for the checkpoint's own processor"):
        preprocess(image, settings, "processor")
    assert preprocess(image, settings, "pad").placement == Placement(0, 83, 168, 1)
