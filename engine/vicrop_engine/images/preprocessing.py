"""Pixels for the vision tower: the checkpoint's image processor in Pillow and NumPy, bit for bit.

The processor's steps and their order are those of transformers' CLIPImageProcessorPil and
LlavaImageProcessorPil; `fit` "pad" and "stretch" replace resize and centre crop so that the whole picture is
seen. Knows nothing of graphs.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from vicrop_engine.engine_dir.records import Fit, Preprocessing
from vicrop_engine.errors import ImageError
from vicrop_engine.images.geometry import Placement
from vicrop_engine.images.picture import MAX_PIXELS

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ModelInput:
    """One picture as the tower takes it: pixels [1, 3, height, width] and where the picture lies in them."""

    pixels: Pixels
    placement: Placement


def preprocess(image: Image.Image, settings: Preprocessing, fit: Fit | None = None) -> ModelInput:
    """Pixels and placement of an RGB picture, with `fit` in place of the settings' own when given.

    Raises ImageError when the processor would blow a very long picture up beyond MAX_PIXELS.
    """
    fit = fit or settings.fit
    if fit == "pad":
        canvas, placement = _pad(image, settings)
    elif fit == "stretch":
        size = _input_size(settings)
        canvas, placement = np.asarray(_resized(image, size, settings)), Placement(0, 0, *size)
    else:
        canvas, placement = _processor(image, settings)
    return ModelInput(_normalised(canvas, settings), placement)


def preprocess_on_patches(
    image: Image.Image, settings: Preprocessing, cells: tuple[int, int], patch_size: int
) -> ModelInput:
    """Pixels and placement of an RGB picture stretched over just `cells` (rows, columns) of whole patches.

    They lie in the middle, with the mean colour around them.
    """
    wide, high = _input_size(settings)
    size = (cells[1] * patch_size, cells[0] * patch_size)
    left, top = (
        (room - taken) // patch_size // 2 * patch_size for room, taken in zip((wide, high), size, strict=True)
    )
    canvas, placement = _on_mean_colour(image, settings, (left, top, *size))
    return ModelInput(_normalised(canvas, settings), placement)


def processor_bytes(size: tuple[int, int], settings: Preprocessing) -> int:
    """Bytes that the processor's steps take beside a picture of this width and height, before they crop."""
    grown = (max(size), max(size)) if settings.pad_to_square else size
    target = size if settings.resize == "none" else _target_size(grown, settings)
    square = grown[0] * grown[1] if settings.pad_to_square else 0
    return 4 * (min(square, MAX_PIXELS) + min(target[0] * target[1], MAX_PIXELS))


def fills_input(settings: Preprocessing) -> bool:
    """Whether a picture of any shape is stretched over the whole input by default, with nothing around it."""
    exact = settings.resize == "exact" and not settings.pad_to_square
    return settings.fit == "stretch" or (settings.fit == "processor" and exact)


def _input_size(settings: Preprocessing) -> tuple[int, int]:
    return (settings.crop_width, settings.crop_height) if settings.center_crop else _exact(settings)


def _exact(settings: Preprocessing) -> tuple[int, int]:
    return settings.width, settings.height


def _pad(image: Image.Image, settings: Preprocessing) -> tuple[npt.NDArray[np.uint8], Placement]:
    """The whole picture scaled to fit and centred on the mean colour."""
    wide, high = _input_size(settings)
    scale = min(wide / image.width, high / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    left, top = (wide - size[0]) // 2, (high - size[1]) // 2
    return _on_mean_colour(image, settings, (left, top, *size))


def _on_mean_colour(
    image: Image.Image, settings: Preprocessing, place: tuple[int, int, int, int]
) -> tuple[npt.NDArray[np.uint8], Placement]:
    """The picture resized into `place` (left, top, width, height) of an input of the mean colour."""
    wide, high = _input_size(settings)
    left, top, width, height = place
    canvas = np.empty((high, wide, 3), np.uint8)
    canvas[:] = _mean_colour(settings)
    resized = _resized(image, (width, height), settings)
    canvas[top : top + height, left : left + width] = np.asarray(resized)
    return canvas, Placement(left, top, width, height)


def _processor(image: Image.Image, settings: Preprocessing) -> tuple[npt.NDArray[np.uint8], Placement]:
    pixels, left, top, scale_x, scale_y = image, 0.0, 0.0, 1.0, 1.0
    if settings.pad_to_square:
        pixels, left, top = _squared(image, settings)
    if settings.resize != "none":
        size = _target_size(pixels.size, settings)
        scale_x, scale_y = size[0] / pixels.width, size[1] / pixels.height
        pixels = _resized(pixels, size, settings)
    canvas = np.asarray(pixels)
    shift_x, shift_y = 0, 0
    if settings.center_crop:
        canvas, shift_x, shift_y = _centre_crop(canvas, settings.crop_height, settings.crop_width)
    placement = Placement(
        left * scale_x + shift_x, top * scale_y + shift_y, image.width * scale_x, image.height * scale_y
    )
    return canvas, placement


def _squared(image: Image.Image, settings: Preprocessing) -> tuple[Image.Image, int, int]:
    side = max(image.size)
    _check_grown(image.size, (side, side))
    left, top = (side - image.width) // 2, (side - image.height) // 2
    square = Image.new("RGB", (side, side), _mean_colour(settings))
    square.paste(image, (left, top))
    return square, left, top


def _target_size(size: tuple[int, int], settings: Preprocessing) -> tuple[int, int]:
    if settings.resize == "exact":
        return _exact(settings)
    short, long = sorted(size)
    grown = int(settings.height * long / short)
    return (settings.height, grown) if size[0] <= size[1] else (grown, settings.height)


def _resized(image: Image.Image, size: tuple[int, int], settings: Preprocessing) -> Image.Image:
    _check_grown(image.size, size)
    return image.resize(size, Image.Resampling(settings.resample))


def _check_grown(size: tuple[int, int], target: tuple[int, int]) -> None:
    if target[0] * target[1] > MAX_PIXELS:
        raise ImageError(
            f"a picture of {size[0]} x {size[1]} pixels is too long for the checkpoint's own processor, "
            f"which would make it {target[0]} x {target[1]}; ask without the compat setting or cut it"
        )


def _centre_crop(
    canvas: npt.NDArray[np.uint8], height: int, width: int
) -> tuple[npt.NDArray[np.uint8], int, int]:
    """The centre, black where the picture does not reach; with how far its corner moved (x, y)."""
    grown_height, grown_width = max(height, canvas.shape[0]), max(width, canvas.shape[1])
    pad_top = math.ceil((grown_height - canvas.shape[0]) / 2)
    pad_left = math.ceil((grown_width - canvas.shape[1]) / 2)
    top = (canvas.shape[0] - height) // 2 + pad_top
    left = (canvas.shape[1] - width) // 2 + pad_left
    grown = np.zeros((grown_height, grown_width, 3), np.uint8)
    grown[pad_top : pad_top + canvas.shape[0], pad_left : pad_left + canvas.shape[1]] = canvas
    top, bottom = max(0, top), min(grown_height, top + height)
    left, right = max(0, left), min(grown_width, left + width)
    return grown[top:bottom, left:right], pad_left - left, pad_top - top


def _mean_colour(settings: Preprocessing) -> tuple[int, int, int]:
    red, green, blue = (int(value * 255) for value in settings.mean)
    return red, green, blue


def _normalised(canvas: npt.NDArray[np.uint8], settings: Preprocessing) -> Pixels:
    """Rescale in float64 and normalise in float32, in the processors' order: [h, w, 3] to [1, 3, h, w]."""
    scaled = (canvas.astype(np.float64) * settings.rescale_factor).astype(np.float32)
    mean, std = np.array(settings.mean, np.float32), np.array(settings.std, np.float32)
    normal: Pixels = ((scaled - mean) / std).transpose(2, 0, 1)[None]
    return np.ascontiguousarray(normal)


def pixel_digest(pixels: npt.NDArray[np.float32]) -> bytes:
    """A digest of shape and values of preprocessed pixels."""
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=32)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()
