"""The published pure-grad flow on transformers: two forward and backward passes, each by itself.

Written from METHOD.md, section 1, as the truth the engine is held against: float32, eager attention, torch's
own automatic differentiation and convolution. It shares nothing with the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional

from tests.parity.published_flow import GENERAL_QUESTION, PublishedFlow, one_image_prompt, search_window

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PublishedGradient:
    """The map [rows, cols] and the crop box."""

    heatmap: Array
    crop_box: tuple[int, int, int, int]


def pure_gradient(
    flow: PublishedFlow, image: Image.Image, question: str, median: int = 7
) -> PublishedGradient:
    """The map of one picture and the window in it."""
    vision = flow.model.config.vision_config
    asked = gradient_norm(flow, image, one_image_prompt(question))
    general = gradient_norm(flow, image, one_image_prompt(GENERAL_QUESTION))
    passed = high_pass(image, vision.image_size, median)
    relative = asked / general * (passed > np.median(passed))
    side, patch = vision.image_size // vision.patch_size, vision.patch_size
    heatmap = np.array(
        [
            [relative[y * patch : (y + 1) * patch, x * patch : (x + 1) * patch].mean() for x in range(side)]
            for y in range(side)
        ],
        np.float32,
    )
    return PublishedGradient(heatmap, search_window(heatmap, image.size, vision.image_size))


def gradient_norm(flow: PublishedFlow, image: Image.Image, prompt: str) -> Array:
    """L2 norm over channels of the gradient at the pixels, [side, side]."""
    inputs = flow.inputs(prompt, [image])
    pixels = inputs["pixel_values"].requires_grad_(True)
    logits = flow.model(**inputs).logits[:, -1, :]
    loss = -torch.nn.CrossEntropyLoss()(logits, logits.argmax(dim=1))
    (gradient,) = torch.autograd.grad(loss, pixels)
    norm: Array = np.linalg.norm(gradient[0].numpy().transpose(1, 2, 0), axis=2)
    return norm


def high_pass(image: Image.Image, side: int, median: int = 7) -> Array:
    """The stretched picture less its blur, root of the sum of squares, median filter: [side, side]."""
    resized = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
    pixels = torch.from_numpy(resized.copy()).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
    return median_filter(strength(pixels), median)


def strength(pixels: torch.Tensor) -> Array:
    """Root of the sum of squares over channels of [3, height, width] less its 3×3 Gaussian blur."""
    bell = torch.exp(-0.5 * (torch.linspace(-1, 1, 3) / 0.8).pow(2))
    bell = bell / bell.sum()
    kernel = torch.mm(bell[:, None], bell[None, :]).expand(3, 1, 3, 3)
    padded = functional.pad(pixels[None], (1, 1, 1, 1), mode="reflect")
    high = pixels.numpy() - functional.conv2d(padded, kernel, groups=3)[0].numpy()
    root: Array = np.sqrt(np.square(high).sum(axis=0))
    return root


def median_filter(values: Array, size: int) -> Array:
    """The middle one of size × size numbers around each, edges mirrored with their own number repeated."""
    half = size // 2
    height, width = values.shape
    rows = [mirrored(y, height) for y in range(-half, height + half)]
    cols = [mirrored(x, width) for x in range(-half, width + half)]
    grown = torch.from_numpy(values[np.ix_(rows, cols)].copy())
    around = functional.unfold(grown[None, None], size)[0]  # [size · size, height · width]
    middle: Array = around.sort(dim=0).values[size * size // 2].reshape(height, width).numpy()
    return middle


def mirrored(index: int, length: int) -> int:
    """d c b a | a b c d | d c b a."""
    index %= 2 * length
    return index if index < length else 2 * length - 1 - index
