"""The three methods written plainly on transformers, sharing nothing with the engine: the tests' truth.

After appendix F of arXiv 2502.17422.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

Box = tuple[int, int, int, int]


class PlainClip:
    """Similarities as CLIPModel gives them."""

    def __init__(self, checkpoint: Path) -> None:
        self.model: Any = CLIPModel.from_pretrained(checkpoint).eval().requires_grad_(False)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
        self.processor: Any = AutoImageProcessor.from_pretrained(checkpoint, backend="pil")

    def similarities(self, image: Image.Image, boxes: list[Box], text: str) -> list[float]:
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(text, truncation=True, max_length=length, return_tensors="pt")
        pixels = self.processor([image.crop(box) for box in boxes], return_tensors="pt")["pixel_values"]
        made = self.model(input_ids=tokens["input_ids"], pixel_values=pixels)
        scores: list[float] = made.logits_per_image[:, 0].tolist()
        return scores

    def best(self, image: Image.Image, boxes: list[Box], text: str) -> Box:
        scores = self.similarities(image, boxes, text)
        return boxes[scores.index(max(scores))]

    def zoom(self, image: Image.Image, text: str) -> Box:
        left, top, right, bottom = 0, 0, image.width, image.height
        seen: list[tuple[float, Box]] = []
        for _ in range(20):
            tenth_x, tenth_y = int(0.1 * (right - left)), int(0.1 * (bottom - top))
            four = [
                (left, top, right, bottom - tenth_y),
                (left, top + tenth_y, right, bottom),
                (left, top, right - tenth_x, bottom),
                (left + tenth_x, top, right, bottom),
            ]
            scores = self.similarities(image, four, text)
            left, top, right, bottom = four[scores.index(max(scores))]
            seen.append((max(scores), (left, top, right, bottom)))
        best = max(score for score, _ in seen)
        return square(next(box for score, box in seen if score == best), image.size)


def square(box: Box, size: tuple[int, int]) -> Box:
    """The smallest square around a box, moved until it is inside, cut where the picture is too narrow."""
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    wide, high = min(side, size[0]), min(side, size[1])
    left, top = left - (wide - (right - left)) // 2, top - (high - (bottom - top)) // 2
    while left < 0 or top < 0:
        left, top = max(left, 0), max(top, 0)
    while left + wide > size[0]:
        left -= 1
    while top + high > size[1]:
        top -= 1
    return left, top, left + wide, top + high
