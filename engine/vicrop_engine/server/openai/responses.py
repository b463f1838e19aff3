"""OpenAI's answer documents, whole and in chunks, with the `vicrop` field. Knows no transport."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vicrop_engine.server.json_documents import Document
from vicrop_engine.server.openai.manner import Notice, sentences
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.vicrop.answer import Answer

UNFINISHED = "\ufffd"  # what the bytes of a character decode to while some of them are missing
LEAST_LOGPROB = -9999.0  # as OpenAI has it for tokens that are next to impossible


@dataclass(frozen=True)
class Completion:
    """The documents of a request's answer, or of `number`: the final one, and that without the crop.

    They share an id, a time in seconds of the epoch, and the model's name.
    """

    model: str
    end_signs: tuple[int, ...]
    number: int = 1
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answer: Answer, vicrop: Document) -> Document:
        """The answer to a request without `stream`."""
        choices = [_choice(answer.answer, self.reason(answer), logprobs_field(answer))]
        if self.number > 1:
            choices.append(_choice(answer.answer_without_crop or "", self.first_reason(answer), None, 1))
        return {
            **self._head("chat.completion"),
            "choices": choices,
            "usage": usage(answer, self.number),
            "vicrop": vicrop,
        }

    def chunk(
        self,
        delta: Document,
        reason: str | None = None,
        *,
        probabilities: Document | None = None,
        **more: Any,
    ) -> Document:
        """A chunk with a piece of the message."""
        choice = {"index": 0, "delta": delta, "logprobs": probabilities, "finish_reason": reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **more}

    def aside(self, **more: Any) -> Document:
        """A chunk with nothing of the message."""
        return {**self._head("chat.completion.chunk"), "choices": [], **more}

    def second(self, answer: Answer, **more: Any) -> Document:
        """A chunk with the whole of the answer without the crop, as a choice of its own."""
        delta = {"role": "assistant", "content": answer.answer_without_crop or ""}
        choice = {"index": 1, "delta": delta, "logprobs": None, "finish_reason": self.first_reason(answer)}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **more}

    def reason(self, answer: Answer) -> str:
        """Why the answer ends: "stop" at an end sign or a text to stop at, "length" where it was cut off."""
        return self._reason(answer.token_ids, answer.stopped)

    def first_reason(self, answer: Answer) -> str:
        """The same of the answer without the crop."""
        return self._reason(answer.first_token_ids, answer.first_stopped)

    def _reason(self, ids: tuple[int, ...], stopped: bool) -> str:
        return "stop" if stopped or (ids and ids[-1] in self.end_signs) else "length"

    def _head(self, kind: str) -> Document:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def _choice(text: str, reason: str, probabilities: Document | None, index: int = 0) -> Document:
    message = {"role": "assistant", "content": text, "refusal": None}
    return {"index": index, "message": message, "logprobs": probabilities, "finish_reason": reason}


def logprobs_field(answer: Answer) -> Document | None:
    """The answer's tokens with their log probabilities; None where they were not asked for."""
    if answer.logprobs is None:
        return None
    content = [
        {
            **_token(token.text, token.logprob),
            "top_logprobs": [_token(text, value) for text, value in token.top],
        }
        for token in answer.logprobs
    ]
    return {"content": content, "refusal": None}


def _token(text: str, logprob: float) -> Document:
    """One token; a part of a character has no bytes of its own to tell."""
    whole = UNFINISHED not in text
    value = max(round(logprob, 6), LEAST_LOGPROB)
    return {
        "token": text,
        "logprob": value,
        "bytes": list(text.encode("utf-8", "replace")) if whole else None,
    }


def usage(answer: Answer, number: int = 1) -> Document:
    """Tokens: of all its prompts, those of them taken from a cache, and of the answers that are given."""
    prompt, completion = answer.tokens.prefill + answer.tokens.reused, len(answer.token_ids)
    completion += len(answer.first_token_ids) if number > 1 else 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": answer.tokens.reused},
    }


def vicrop_field(
    answer: Answer, handle: RequestHandle, *, heatmap: bool, notices: Sequence[Notice] = ()
) -> Document:
    """The document of `ask --json` with what was reused; the heatmap is null unless it is wanted.

    Its notices are the engine's, and those of what was left out of the request.
    """
    document = (answer if heatmap else replace(answer, heatmap=None)).to_json()
    box = answer.heatmap_box if heatmap else None
    counters = handle.counters
    return {
        **document,
        "heatmap_box": None if box is None else list(box),
        "tiles": [list(tile) for tile in answer.tiles],
        "notices": [*answer.notices, *sentences(notices)],
        "reused": {
            "prefix": counters.prefix_hits,
            "image_embeds": counters.vision_hits,
            "general": counters.general_hits,
            "shared": handle.shared,
        },
    }
