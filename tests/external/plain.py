"""The three methods written plainly on transformers, sharing nothing with the engine: the tests' truth.

After appendix F of arXiv 2502.17422.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel, SamModel, YolosForObjectDetection

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


class PlainYolo:
    """Boxes as YolosForObjectDetection and its processor give them."""

    def __init__(self, checkpoint: Path) -> None:
        self.model: Any = YolosForObjectDetection.from_pretrained(checkpoint).eval().requires_grad_(False)
        self.processor: Any = AutoImageProcessor.from_pretrained(checkpoint, backend="pil")

    def boxes(self, image: Image.Image, confidence: float = 0.25) -> list[Box]:
        made = self.model(self.processor(image, return_tensors="pt")["pixel_values"])
        shares = made.logits.softmax(-1)[0, :, :-1].max(-1).values
        found: list[Box] = []
        for share, (x, y, wide, high) in zip(shares.tolist(), made.pred_boxes[0].tolist(), strict=True):
            left, right = round((x - wide / 2) * image.width), round((x + wide / 2) * image.width)
            top, bottom = round((y - high / 2) * image.height), round((y + high / 2) * image.height)
            box = (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height))
            if share > confidence and box[0] < box[2] and box[1] < box[3] and box not in found:
                found.append(box)
        return found


class PlainSam:
    """Boxes of the masks that transformers' own mask generation keeps."""

    def __init__(self, checkpoint: Path) -> None:
        self.model: Any = SamModel.from_pretrained(checkpoint).eval().requires_grad_(False)
        self.processor: Any = AutoImageProcessor.from_pretrained(checkpoint, backend="pil")

    def boxes(self, image: Image.Image, points: int, overlap: float, **thresholds: float) -> list[Box]:
        inputs = self.processor(image, return_tensors="pt")
        size, inner = inputs["original_sizes"].tolist(), inputs["reshaped_input_sizes"].tolist()
        crop, grid, _, _ = self.processor.generate_crop_boxes(
            image, self.processor.size["longest_edge"], points_per_crop=points
        )
        made = self.model(inputs["pixel_values"], input_points=grid.float())
        masks = self.processor.post_process_masks([made.pred_masks[0]], size, inner, binarize=False)
        _, scores, corners = self.processor.filter_masks(
            masks[0], made.iou_scores[0], size[0], crop[0].tolist(), **thresholds
        )
        kept: list[Box] = []
        for index in sorted(range(len(scores)), key=lambda index: -float(scores[index])):
            left, top, right, bottom = (int(edge) for edge in corners[index])
            box = (left, top, right + 1, bottom + 1)
            if all(shared(box, other) <= overlap for other in kept):
                kept.append(box)
        return kept


def shared(first: Box, second: Box) -> float:
    """Intersection over union, counted pixel by pixel."""
    wide = len(set(range(first[0], first[2])) & set(range(second[0], second[2])))
    high = len(set(range(first[1], first[3])) & set(range(second[1], second[3])))
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (first, second)]
    return wide * high / (sum(areas) - wide * high)


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
