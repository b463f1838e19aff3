"""Requests of every kind on the built-in pictures, drawn from a seed, and what has to be equal to the bit."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from vicrop_engine.examples import signs
from vicrop_engine.vicrop.answer import Answer

KINDS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {},
    {"method": "grad-att"},
    {"when": "auto"},
    {"when": "auto", "first_answer": False},
    {"method": "none"},
    {"first_answer": False},
    {"crop_tokens": 36},
    {"localize": "Where is the sign?"},
    {"method": "grad-att", "localize": "Where is the sign?"},
    {"compat": "mllms-know"},
    {"high_res": "on"},
    {"method": "grad-att", "high_res": "on"},
    {"max_new_tokens": 1},
    {"layers": "1-3"},
)
Request = tuple[bytes, str, dict[str, Any]]


@cache
def large_picture(number: int) -> bytes:
    """Four of the built-in pictures side by side, which is enough for tiles."""
    paths = [path for path, _ in signs()]
    whole = Image.new("RGB", (2000, 1400), "grey")
    for place in range(4):
        with Image.open(paths[(number + 7 * place) % len(paths)]) as part:
            whole.paste(part.convert("RGB").resize((1000, 700)), (place % 2 * 1000, place // 2 * 700))
    buffer = io.BytesIO()
    whole.save(buffer, "WEBP", quality=90)
    return buffer.getvalue()


def mixed_requests(count: int, seed: int) -> list[Request]:
    """So many (image, question, keywords): a few pictures asked about often, in all kinds of ways."""
    random = np.random.default_rng(seed)
    examples = signs()
    chosen = [examples[number] for number in random.choice(len(examples), 24, replace=False)]
    found = []
    for _ in range(count):
        path, example = chosen[random.integers(len(chosen))]
        keywords = KINDS[random.integers(len(KINDS))]
        tiled = keywords.get("high_res") == "on" or random.random() < 0.02
        image = large_picture(int(random.integers(3))) if tiled else path.read_bytes()
        found.append((image, example.question, keywords))
    return found


def numbers(answer: Answer) -> tuple[Any, ...]:
    """All that an answer says but how long it took and what was reused; the heatmap byte by byte."""
    heatmap = None if answer.heatmap is None else (answer.heatmap.shape, answer.heatmap.tobytes())
    texts = answer.answer, answer.answer_without_crop, answer.token_ids, answer.first_token_ids
    return *texts, answer.crop_box, answer.tiles, heatmap, answer.confidence, answer.crop_worth
