"""What two answers to the same question have in common wherever they were made."""

from __future__ import annotations

from typing import Any

from vicrop_engine.result import Answer

OWN = {"timings", "tokens"}  # which depend on what was asked before


def facts(answer: Answer) -> tuple[dict[str, Any], bytes, tuple[int, ...], tuple[int, ...]]:
    """Texts, boxes, heatmap to the last bit, and token ids."""
    document = {key: value for key, value in answer.to_json().items() if key not in OWN}
    heatmap = b"" if answer.heatmap is None else answer.heatmap.tobytes()
    return document, heatmap, answer.token_ids, answer.first_token_ids
