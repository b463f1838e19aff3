"""OpenAI's answer documents, whole and in chunks, with the `vicrop` field. Knows no transport."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

from vicrop_engine.server.json_documents import Document
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.vicrop.answer import Answer


@dataclass(frozen=True)
class Completion:
    """One answer's documents: they share an id, a time in seconds of the epoch, and the model's name."""

    model: str
    end_signs: tuple[int, ...]
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answer: Answer, vicrop: Document) -> Document:
        """The answer to a request without `stream`."""
        message = {"role": "assistant", "content": answer.answer, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.reason(answer)}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": usage(answer),
            "vicrop": vicrop,
        }

    def chunk(self, delta: Document, reason: str | None = None, **more: Any) -> Document:
        """A chunk with a piece of the message."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **more}

    def aside(self, **more: Any) -> Document:
        """A chunk with nothing of the message."""
        return {**self._head("chat.completion.chunk"), "choices": [], **more}

    def reason(self, answer: Answer) -> str:
        """Why the answer ends: "stop" at an end sign, "length" where it was cut off."""
        return "stop" if answer.token_ids and answer.token_ids[-1] in self.end_signs else "length"

    def _head(self, kind: str) -> Document:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def usage(answer: Answer) -> Document:
    """Tokens: of all its prompts, those of them taken from a cache, and of the final answer."""
    prompt, completion = answer.tokens.prefill + answer.tokens.reused, len(answer.token_ids)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": answer.tokens.reused},
    }


def vicrop_field(answer: Answer, handle: RequestHandle, *, heatmap: bool) -> Document:
    """The document of `ask --json` with what was reused; the heatmap is null unless it is wanted."""
    document = (answer if heatmap else replace(answer, heatmap=None)).to_json()
    box = answer.heatmap_box if heatmap else None
    counters = handle.counters
    return {
        **document,
        "heatmap_box": None if box is None else list(box),
        "tiles": [list(tile) for tile in answer.tiles],
        "notices": list(answer.notices),
        "reused": {
            "prefix": counters.prefix_hits,
            "image_embeds": counters.vision_hits,
            "general": counters.general_hits,
            "shared": handle.shared,
        },
    }
