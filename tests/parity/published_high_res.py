"""The published rel-att flow in high resolution: a map per tile by full passes, stitched, and one search.

Written from METHOD.md, sections 1 and 5, like `published_flow`, and shares nothing with the engine.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from tests.parity.published_flow import (
    GENERAL_QUESTION,
    Array,
    PublishedAnswer,
    PublishedFlow,
    one_image_prompt,
    search_window,
)

LONGEST = 1024


def ask_high_res(
    flow: PublishedFlow, image: Image.Image, question: str, *, layer: int, max_new_tokens: int = 20
) -> PublishedAnswer:
    """The first answer on the whole picture, the window in the map of its tiles, the answer with the crop."""
    prompt = one_image_prompt(question)
    first = flow.generate(prompt, [image], max_new_tokens)
    heatmap = tiled_map(flow, image, prompt, layer)
    box = search_window(heatmap, image.size, flow.model.config.vision_config.image_size)
    final = flow.generate("<image>" + prompt, [image, image.crop(box)], max_new_tokens)
    return PublishedAnswer(first, flow.text(first), final, flow.text(final), heatmap, box)


def tiled_map(flow: PublishedFlow, image: Image.Image, prompt: str, layer: int) -> Array:
    """Relative attention of each tile by itself, in the tiles' places."""
    general = one_image_prompt(GENERAL_QUESTION)
    rows = [
        [flow.attention(prompt, tile, layer) / flow.attention(general, tile, layer) for tile in row]
        for row in cut(image)
    ]
    joined: Array = np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)
    return joined


def cut(image: Image.Image) -> list[list[Image.Image]]:
    """Tiles by rows; raises ZeroDivisionError where the published code does."""
    num_rows = math.ceil(image.height / LONGEST)
    num_cols = int(num_rows * image.width / image.height)
    width, height = math.ceil(image.width / num_cols), math.ceil(image.height / num_rows)
    return [
        [
            image.crop((col * width, row * height, (col + 1) * width, (row + 1) * height))
            for col in range(num_cols)
        ]
        for row in range(num_rows)
    ]
