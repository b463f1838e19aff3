"""The published rel-att flow, slowly and plainly: four full float32 passes of transformers per question.

Written from METHOD.md, sections 1 and 4, as the truth the engine is held against. It shares nothing with the
engine: no cache between passes, the checkpoint's own processor, eager attention, a search cell by cell.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    BatchFeature,
    CLIPImageProcessorPil,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
    LlavaProcessor,
)

GENERAL_QUESTION = "Write a general description of the image."
RATIOS = (1, 1.2, 1.4, 1.6, 1.8, 2)
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PublishedAnswer:
    """Token ids without the end token, the text they decode to, the map [rows, cols] and the crop box."""

    first_tokens: list[int]
    first_answer: str
    tokens: list[int]
    answer: str
    heatmap: Array
    crop_box: tuple[int, int, int, int]


class PublishedFlow:
    """One checkpoint directory, answered as the published code answers."""

    def __init__(self, checkpoint: Path) -> None:
        model: Any = LlavaForConditionalGeneration.from_pretrained(
            checkpoint, dtype=torch.float32, attn_implementation="eager"
        )
        self.model = model.eval()
        self.processor = load_processor(checkpoint)

    def ask(
        self, image: Image.Image, question: str, *, layer: int, max_new_tokens: int = 20
    ) -> PublishedAnswer:
        """Answer without the crop, find the window in the map of `layer`, answer with the crop."""
        first = self.generate(one_image_prompt(question), [image], max_new_tokens)
        asked = self.attention(one_image_prompt(question), image, layer)
        general = self.attention(one_image_prompt(GENERAL_QUESTION), image, layer)
        heatmap = asked / general
        window = self.model.config.vision_config.image_size
        box = search_window(heatmap, image.size, window)
        crop = image.crop(box)
        final = self.generate("<image>" + one_image_prompt(question), [image, crop], max_new_tokens)
        return PublishedAnswer(first, self.text(first), final, self.text(final), heatmap, box)

    @torch.no_grad()
    def generate(self, prompt: str, images: list[Image.Image], max_new_tokens: int) -> list[int]:
        """Greedy new token ids, without the end token."""
        inputs = self.inputs(prompt, images)
        ids = self.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        new: list[int] = ids[0, inputs["input_ids"].shape[1] :].tolist()
        end = self.model.generation_config.eos_token_id
        return new[:-1] if new and new[-1] == end else new

    @torch.no_grad()
    def attention(self, prompt: str, image: Image.Image, layer: int) -> Array:
        """Last prompt token's attention over the patches at `layer`, mean over heads, [rows, cols]."""
        inputs = self.inputs(prompt, [image])
        rows = self.model(**inputs, output_attentions=True).attentions[layer][0, :, -1]
        patches = inputs["input_ids"][0] == self.model.config.image_token_id
        side = self.model.config.vision_config.image_size // self.model.config.vision_config.patch_size
        grid: Array = rows[:, patches].mean(dim=0).numpy().reshape(side, side)
        return grid

    def inputs(self, prompt: str, images: list[Image.Image]) -> BatchFeature:
        """The processor's tensors for one prompt and its images."""
        made: BatchFeature = self.processor(text=prompt, images=images, return_tensors="pt")
        return made

    def text(self, tokens: list[int]) -> str:
        """The tokens as an answer."""
        decoded: str = self.processor.tokenizer.decode(tokens, skip_special_tokens=True)
        return decoded.strip()


def load_processor(checkpoint: Path) -> LlavaProcessor:
    """The checkpoint's processor with the Pillow image processor its files name."""
    settings = json.loads((checkpoint / "processor_config.json").read_text(encoding="utf-8"))
    document = settings.get("image_processor")
    if document is None:
        document = json.loads((checkpoint / "preprocessor_config.json").read_text(encoding="utf-8"))
    pads = document["image_processor_type"].startswith("Llava")
    kind = LlavaImageProcessorPil if pads else CLIPImageProcessorPil
    return LlavaProcessor(  # type: ignore[no-untyped-call]
        image_processor=kind.from_dict(document),
        tokenizer=AutoTokenizer.from_pretrained(checkpoint),
        patch_size=settings["patch_size"],
        vision_feature_select_strategy=settings["vision_feature_select_strategy"],
        num_additional_image_tokens=settings["num_additional_image_tokens"],
    )


def one_image_prompt(question: str) -> str:
    """The published LLaVA-1.5 prompt."""
    return f"<image>\nUSER: {question} Answer the question using a single word or phrase.\nASSISTANT:"


def search_window(
    heatmap: Array,
    image_size: tuple[int, int],
    window: int,
    least: int = 0,
    lies: tuple[float, float, float, float] | None = None,
) -> tuple[int, int, int, int]:
    """METHOD.md section 4 in plain loops: (x0, y0, x1, y1) in pixels of the image.

    The published search divides by zero where a window holds no cell; `least` is how many it holds a side.
    `lies` is where the map's corner is and how large a cell, in pixels; else it fills the picture.
    """
    rows, cols = heatmap.shape
    left, top, cell_width, cell_height = lies or (0, 0, image_size[0] / cols, image_size[1] / rows)
    best: tuple[float, float, int, int, int, int] | None = None
    for ratio in RATIOS:
        across = max(least, min(int(window * ratio / cell_width), cols))
        down = max(least, min(int(window * ratio / cell_height), rows))
        if across == cols and down == rows:
            if ratio == 1:
                return 0, 0, *image_size
            continue
        x, y, score = _sharpest(heatmap, across, down)
        if best is None or score > best[0]:
            best = score, window * ratio, x, y, across, down
    assert best is not None
    _, side, x, y, across, down = best
    start, end = _span(int(left + (x * cell_width + cell_width * across / 2)), side // 2, image_size[0])
    upper, lower = _span(int(top + (y * cell_height + cell_height * down / 2)), side // 2, image_size[1])
    return start, upper, end, lower


def _sharpest(heatmap: Array, across: int, down: int) -> tuple[int, int, float]:
    """Position of the largest window sum (x outer, y inner, first wins) and its score."""
    num_x, num_y = heatmap.shape[1] - across + 1, heatmap.shape[0] - down + 1
    sums = np.array(
        [[heatmap[y : y + down, x : x + across].sum() for x in range(num_x)] for y in range(num_y)],
        dtype=np.float64,
    )
    place = max(((x, y) for x in range(num_x) for y in range(num_y)), key=lambda at: sums[at[1], at[0]])
    x, y = place
    beside = [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)]
    neighbours = [sums[b, a] for a, b in beside if 0 <= a < num_x and 0 <= b < num_y]
    return x, y, float((sums[y, x] - np.mean(neighbours)) / (across * down))


def _span(centre: int, half: float, limit: int) -> tuple[int, int]:
    """Start and end of a window of twice `half` around `centre`, pushed inside 0 to `limit`."""
    moved = max(half, centre)
    moved = min(limit - half, moved)
    return int(max(0, moved - half)), int(min(limit, moved + half))
