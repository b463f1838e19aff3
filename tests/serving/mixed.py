"""Requests of every kind on the built-in pictures, drawn from a seed, and what has to be equal to the bit."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from vicrop_engine.answer_form import AnswerForm
from vicrop_engine.examples import signs
from vicrop_engine.vicrop.answer import Answer

TURNS = ("User: What is this?", "Assistant: a street with signs")
READING = '{"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}'
COLOUR = '{"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}'
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
    {"history": TURNS, "form": AnswerForm(fits=True)},
    {"history": TURNS * 40, "form": AnswerForm(fits=True), "first_answer": False},
    {"form": AnswerForm(fits=True, top_logprobs=3), "max_new_tokens": 32_768},
    {"form": AnswerForm(stop=("black", "7"), ignore_eos=True), "max_new_tokens": 12},
    {"form": AnswerForm(json_schema=READING), "max_new_tokens": 40},
    {"form": AnswerForm(json_schema=COLOUR, top_logprobs=1), "max_new_tokens": 24, "history": TURNS},
)
TEXT_ALONE: tuple[dict[str, Any], ...] = ({}, {"history": TURNS}, {"form": AnswerForm(json_schema=COLOUR)})
Request = tuple[bytes | None, str, dict[str, Any]]


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
    """So many (image, question, keywords): a few pictures asked about often, in all kinds of ways.

    Some have no picture.
    """
    random = np.random.default_rng(seed)
    examples = signs()
    chosen = [examples[number] for number in random.choice(len(examples), 24, replace=False)]
    found = []
    for _ in range(count):
        path, example = chosen[random.integers(len(chosen))]
        keywords = KINDS[random.integers(len(KINDS))]
        tiled = keywords.get("high_res") == "on" or random.random() < 0.02
        image = large_picture(int(random.integers(3))) if tiled else path.read_bytes()
        alone = random.random() < 0.04
        if alone:
            keywords = TEXT_ALONE[random.integers(len(TEXT_ALONE))]
        found.append((None if alone else image, example.question, keywords))
    return found


CROP_BOX = -5  # where it stands among the numbers


def numbers(answer: Answer) -> tuple[Any, ...]:
    """All that an answer says but how long it took and what was reused; the heatmap byte by byte."""
    heatmap = None if answer.heatmap is None else (answer.heatmap.shape, answer.heatmap.tobytes())
    texts = answer.answer, answer.answer_without_crop, answer.token_ids, answer.first_token_ids
    told = answer.notices, answer.stopped, answer.logprobs
    return *texts, *told, answer.crop_box, answer.tiles, heatmap, answer.confidence, answer.crop_worth
