"""Localizers slowly and plainly, on whole float32 passes of transformers; every family answers alike.

Written from the formulas of docs/methods.md. It shares nothing with the engine: no cut prompt but the row in
the middle of a whole one, no cache, cells counted one by one, boxes in whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from tests.parity.published_flow import GENERAL_QUESTION, PublishedFlow, one_image_prompt
from tests.parity.qwen_flow import WINDOW, QwenFlow
from tests.parity.smolvlm_flow import SmolVLMFlow

Maps = npt.NDArray[np.float64]
SENTENCE = " Answer the question using a single word or phrase."


class PlainModel(Protocol):
    """A checkpoint by transformers."""

    window: int

    def maps(self, question: str, image: Image.Image, layers: Sequence[int], until: str = "") -> Maps:
        """Attention to the picture's cells [layers, rows, cols], mean over heads.

        Of the prompt's last token, or of the last one of `until`, which the question ends with.
        """

    def answer(self, question: str, images: list[Image.Image], number: int = 8) -> list[int]:
        """Greedy ids without the end sign; the first image is the picture, the second its crop."""


def from_end(tokenizer: Any, question: str) -> int:
    """Where the question's last token is in a prompt, counted from its end: negative."""
    text = f"x {question}{SENTENCE}"
    ids = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    end = text.index(SENTENCE)
    starts = [start for start, stop in ids["offset_mapping"] if stop > start]
    return sum(start < end for start in starts) - 1 - len(starts)


class PlainLlava:
    """LLaVA-1.5 with a processor that stretches."""

    def __init__(self, checkpoint: Path) -> None:
        self.flow = PublishedFlow(checkpoint)
        self.window = self.flow.model.config.vision_config.image_size

    @torch.no_grad()
    def maps(self, question: str, image: Image.Image, layers: Sequence[int], until: str = "") -> Maps:
        inputs = self.flow.inputs(one_image_prompt(question), [image])
        seen = inputs["input_ids"][0] == self.flow.model.config.image_token_id
        attentions = self.flow.model(**inputs, output_attentions=True).attentions
        tokenizer: Any = self.flow.processor.tokenizer
        at = from_end(tokenizer, question) - ending(tokenizer, "\nASSISTANT:") if until else -1
        side = self.window // self.flow.model.config.vision_config.patch_size
        return means(attentions, layers, at, seen).reshape(len(layers), side, side)

    def answer(self, question: str, images: list[Image.Image], number: int = 8) -> list[int]:
        prompt = "<image>" * (len(images) - 1) + one_image_prompt(question)
        return self.flow.generate(prompt, images, number)


class PlainSmolVLM:
    """SmolVLM; a crop is one tile."""

    def __init__(self, checkpoint: Path) -> None:
        self.flow = SmolVLMFlow(checkpoint)
        self.window = self.flow.side

    @torch.no_grad()
    def maps(self, question: str, image: Image.Image, layers: Sequence[int], until: str = "") -> Maps:
        picture = self.flow.tiles(image, one=False)
        ids, tokenizer = self.flow.ids(question, [picture]), self.flow.tokenizer
        attentions = self.flow.model(
            input_ids=ids, pixel_values=picture.pixels[None], output_attentions=True
        ).attentions
        after = ending(tokenizer, "<end_of_utterance>\nAssistant:")
        at = from_end(tokenizer, question) - after if until else -1
        each = [self.flow.cells(attentions[layer][0, :, at], ids, picture) for layer in layers]
        return np.stack(each).astype(np.float64)

    def answer(self, question: str, images: list[Image.Image], number: int = 8) -> list[int]:
        tiles = [self.flow.tiles(image, one=place > 0) for place, image in enumerate(images)]
        return self.flow.generate(question, tiles, number)


class PlainQwen:
    """Qwen2-VL, Qwen2.5-VL and Qwen3-VL."""

    window = WINDOW

    def __init__(self, checkpoint: Path) -> None:
        self.flow = QwenFlow(checkpoint)

    @torch.no_grad()
    def maps(self, question: str, image: Image.Image, layers: Sequence[int], until: str = "") -> Maps:
        picture = self.flow.shown(image, published=False)
        output, seen = self.flow.run(question, picture)
        after = ending(self.flow.tokenizer, "<|im_end|>\n<|im_start|>assistant\n")
        at = from_end(self.flow.tokenizer, question) - after if until else -1
        return means(output.attentions, layers, at, seen).reshape(len(layers), *picture.cells)

    def answer(self, question: str, images: list[Image.Image], number: int = 8) -> list[int]:
        pictures = [self.flow.shown(image, published=False) for image in images]
        return self.flow.generate(question, pictures, number)


def ending(tokenizer: Any, text: str) -> int:
    """How many tokens a template has after the question's sentence."""
    whole = tokenizer(f"x phrase.{text}", add_special_tokens=False)["input_ids"]
    return len(whole) - len(tokenizer("x phrase.", add_special_tokens=False)["input_ids"])


def means(attentions: Sequence[Tensor], layers: Sequence[int], at: int, seen: Tensor) -> Maps:
    """Mean over heads of the row at a token, of the picture's tokens alone, [layers, tokens]."""
    each = [attentions[layer][0, :, at, seen].double().mean(dim=0) for layer in layers]
    return np.asarray(torch.stack(each).numpy())


def target_map(model: PlainModel, target: str, image: Image.Image, layers: Sequence[int]) -> Maps:
    """The target's last token's row, in the middle of the whole prompt that asks where the target is."""
    question = f"Where is the {target}"
    return model.maps(question, image, layers, until=target).mean(axis=0)


def carve_map(model: PlainModel, question: str, image: Image.Image, layers: Sequence[int]) -> Maps:
    """CARVE's first step: the sum over layers of the question's row over the general prompt's."""
    asked, usual = model.maps(question, image, layers), model.maps(GENERAL_QUESTION, image, layers)
    total = np.zeros(asked.shape[1:])
    for one, other in zip(asked, usual, strict=True):
        for cell in np.ndindex(one.shape):
            total[cell] += one[cell] / (other[cell] + 1e-8)
    return total


def carve_cells(heatmap: Maps) -> npt.NDArray[np.bool_]:
    """The cells that are kept: labels spread to neighbours until nothing changes."""
    rows, cols = heatmap.shape
    wanted = -(-heatmap.size // 5)
    order = sorted(np.ndindex(heatmap.shape), key=lambda cell: (-heatmap[cell], cell))
    label = {cell: number for number, cell in enumerate(order[:wanted])}
    changed = True
    while changed:
        changed = False
        for row, col in label:
            near = [(a, b) for a in range(row - 1, row + 2) for b in range(col - 1, col + 2)]
            least = min(label[cell] for cell in near if cell in label)
            changed |= least < label[row, col]
            label[row, col] = least
    sums = {number: 0.0 for number in label.values()}
    for cell, number in label.items():
        sums[number] += float(heatmap[cell])
    best = sorted(sums, key=lambda number: -sums[number])[: max(3, -(-len(sums) // 5))]
    return np.array([[label.get((row, col)) in best for col in range(cols)] for row in range(rows)])


def carved(image: Image.Image, kept: npt.NDArray[np.bool_]) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """The picture with black in every pixel that no kept cell touches, cut to the rest, and where that is."""
    rows, cols = kept.shape
    width, height = image.size
    pixels = np.zeros((height, width), bool)
    for row, col in zip(*np.nonzero(kept), strict=True):
        down = slice(int(row) * height // rows, -(-(int(row) + 1) * height // rows))
        across = slice(int(col) * width // cols, -(-(int(col) + 1) * width // cols))
        pixels[down, across] = True
    ys, xs = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    box = int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
    return Image.fromarray(np.asarray(image) * pixels[..., None].astype(np.uint8)).crop(box), box


def floored_ratio(
    model: PlainModel, question: str, image: Image.Image, layers: Sequence[int], share: float
) -> Maps:
    """rel-att with a floor under the divisor: `share` of the general prompt's mean, layer by layer."""
    asked, usual = model.maps(question, image, layers), model.maps(GENERAL_QUESTION, image, layers)
    total = np.zeros(asked.shape[1:])
    for one, other in zip(asked, usual, strict=True):
        least = share * sum(other.ravel().tolist()) / other.size
        for cell in np.ndindex(one.shape):
            total[cell] += one[cell] / max(other[cell], least)
    return total / len(layers)
