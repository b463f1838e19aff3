"""What two answers to the same question have in common wherever they were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vicrop_engine.vicrop.answer import Answer

SAME = ("answer", "answer_without_crop", "method", "high_res", "crop_box", "crop_skipped", "crop_worth")
SAME += (
    "image_size",
    "heatmap",
    "layers",
    "confidence",
    "engine",
)  # all but what depends on earlier questions


def facts(answer: Answer) -> tuple[dict[str, Any], bytes, tuple[int, ...], tuple[int, ...]]:
    """Texts, boxes, heatmap to the last bit, and token ids."""
    heatmap = b"" if answer.heatmap is None else answer.heatmap.tobytes()
    return own_facts(answer.to_json()), heatmap, answer.token_ids, answer.first_token_ids


def own_facts(document: Mapping[str, Any]) -> dict[str, Any]:
    """Of an answer's JSON."""
    return {key: document[key] for key in SAME}
