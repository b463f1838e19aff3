"""A request of lmms-eval as a question of ours: its picture, its text, how long, and where the answer ends.

Knows plain documents alone, so that it can be read and tested without lmms-eval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from vicrop_engine.errors import ItemError, shown
from vicrop_engine.vicrop.params import AskParams

OPEN_TOKENS = 128  # where a task sets no limit, or one of thousands: as `vicrop-engine eval` takes


@dataclass(frozen=True)
class Turn:
    """One question: picture, text, settings, and the texts that end an answer."""

    image: Image.Image
    text: str
    params: AskParams
    until: tuple[str, ...]

    def cut(self, answer: str) -> str:
        """The answer up to the first text that ends it."""
        ends = [place for end in self.until if end and (place := answer.find(end)) >= 0]
        return answer[: min(ends)] if ends else answer


def turn_of(messages: Sequence[Mapping[str, Any]], generation: Mapping[str, Any], params: AskParams) -> Turn:
    """The question of one user turn with one picture. Raises ItemError for anything else."""
    users = [message for message in messages if message["role"] == "user"]
    parts = [part for message in users for part in message["content"]]
    images = [part["url"] for part in parts if part["type"] == "image"]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    if len(users) != 1 or len(messages) != 1 or len(images) != 1 or len(images) + len(texts) != len(parts):
        kinds = [part["type"] for part in parts]
        raise ItemError(
            f"got {len(messages)} messages with {shown(kinds)}, wanted one picture and a question"
        )
    limit = generation.get("max_new_tokens")
    tokens = OPEN_TOKENS if limit is None else min(int(limit), OPEN_TOKENS)
    until = generation.get("until") or ()
    ends = (until,) if isinstance(until, str) else tuple(until)
    return Turn(images[0], "\n".join(texts), replace(params, max_new_tokens=tokens), ends)
