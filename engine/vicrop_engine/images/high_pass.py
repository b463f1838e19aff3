"""Where a picture has fine detail: its high-pass, as the code published with arXiv 2502.17422 computes it.

A 3×3 Gaussian blur (sigma 0.8, edges mirrored without repeating them) is taken off, the root of the sum of
squares over channels follows, then a median filter (edges mirrored with repeating them). Float32 rounding
is that of the published run: a sum over the kernel's rows in fused multiplications and additions, because
equal numbers must stay equal for the median. Knows pixels; nothing of models or gradients.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from vicrop_engine.arrays import Floats
from vicrop_engine.images.geometry import Placement

Mask = npt.NDArray[np.bool_]
SIGMA = 0.8  # what 3 pixels stand for where no sigma is given
MEDIAN = 7
ROUNDING = 1e-6  # of full brightness: what a blur leaves of a plain area


def picture_detail(image: Image.Image, side: int, median: int = MEDIAN) -> Mask:
    """Pixels above the median of the high-pass of the whole RGB picture, stretched to [side, side]."""
    stretched = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), np.float32)
    passed = high_pass(stretched.transpose(2, 0, 1) / np.float32(255), median)
    return passed > np.median(passed)


def seen_detail(pixels: Floats, placement: Placement, std: tuple[float, ...], median: int = MEDIAN) -> Mask:
    """The same [height, width] for a picture as the model sees it: normalised `pixels` [1, 3, height, width].

    Only the picture counts, not the padding around it, and nothing that is rounding counts as detail.
    """
    inside: Mask = np.zeros(pixels.shape[2:], bool)
    height, width = pixels.shape[2:]
    rows = _covered(placement.top, placement.height, height)
    cols = _covered(placement.left, placement.width, width)
    brightness = pixels[0][:, rows, cols] * np.array(std, np.float32)[:, None, None]
    passed = high_pass(brightness, median)
    inside[rows, cols] = passed > max(float(np.median(passed)), ROUNDING)
    return inside


def high_pass(image: Floats, median: int = MEDIAN) -> Floats:
    """High-pass [height, width] of brightness [3, height, width]; `median` is the odd width of the filter."""
    high = image - _blurred(image)
    strength: Floats = np.sqrt(np.square(high).sum(axis=0))
    return _median_filtered(strength, median)


def _blurred(image: Floats) -> Floats:
    bell = np.exp(-0.5 * (np.array([-1.0, 0.0, 1.0]) / SIGMA) ** 2).astype(np.float32)
    bell /= bell.sum()
    kernel = np.outer(bell, bell)
    height, width = image.shape[1:]
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="reflect").astype(np.float64)
    total = np.zeros_like(image)
    for row, col in np.ndindex(3, 3):
        part = padded[:, row : row + height, col : col + width] * np.float64(kernel[row, col])
        total = (part + total).astype(np.float32)
    return total


def _median_filtered(values: Floats, size: int) -> Floats:
    padded = np.pad(values, size // 2, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
    middle = size * size // 2
    filtered: Floats = np.partition(windows.reshape(*values.shape, -1), middle, axis=-1)[..., middle]
    return filtered


def _covered(start: float, length: float, limit: int) -> slice:
    """The pixels whose centres a stretch covers, one at least."""
    first = min(max(round(start), 0), limit - 1)
    return slice(first, max(min(round(start + length), limit), first + 1))
