"""The answer documents and events of `/v1/responses`, with the `vicrop` field. Knows no transport."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from vicrop_engine.server.json_documents import Document, encode
from vicrop_engine.server.openai.events import FIRST, Event
from vicrop_engine.server.openai.reply import Failed, VicropField
from vicrop_engine.server.openai.responses import Completion, logprobs_field
from vicrop_engine.server.openai.sse import GrowingText
from vicrop_engine.server.problem import ClientGone
from vicrop_engine.vicrop.answer import Answer

Make = Callable[..., bytes]


@dataclass(frozen=True)
class ResponsesReply:
    """One response: `completion` knows model and end signs, `echoed` are keys of the request it repeats."""

    completion: Completion
    echoed: Document
    id: str = field(default_factory=lambda: f"resp_{uuid.uuid4().hex}")
    item: str = field(default_factory=lambda: f"msg_{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answer: Answer, vicrop: Document) -> Document:
        """The response to a request without `stream`."""
        is_cut = self.completion.reason(answer) == "length"
        return {
            **self._response("incomplete" if is_cut else "completed"),
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": [self._item(answer, "incomplete" if is_cut else "completed")],
            "usage": _usage(answer),
            "vicrop": vicrop,
        }

    async def stream(
        self, events: AsyncGenerator[Event], vicrop: VicropField, failed: Failed
    ) -> AsyncGenerator[bytes]:
        """The response in events, from the first on, which is had by then; closes `events`."""
        make = _numbered()
        growing, place = GrowingText(), {"item_id": self.item, "output_index": 0, "content_index": 0}
        for kind in ("response.created", "response.in_progress"):
            yield make(kind, response=self._response("in_progress"))
        yield make("response.output_item.added", output_index=0, item=self._item(None, "in_progress"))
        yield make("response.content_part.added", **place, part=_part(None))
        try:
            async with aclosing(events):
                async for event in events:
                    if event.kind == FIRST:
                        continue
                    piece = growing.more(event.text, whole=event.answer is not None)
                    if piece:
                        yield make("response.output_text.delta", **place, delta=piece, logprobs=[])
                    if event.answer is not None:
                        yield await asyncio.to_thread(self._end, make, place, event.answer, vicrop)
        except ClientGone:
            raise
        except Exception as error:
            problem = failed(error)
            facts = {"code": problem.code, "message": problem.message, "param": problem.param}
            yield make("error", **facts)

    def _end(self, make: Make, place: Document, answer: Answer, vicrop: VicropField) -> bytes:
        """All events after the last piece."""
        part, response = _part(answer), self.whole(answer, vicrop(answer))
        probabilities = part["logprobs"]
        return b"".join(
            (
                make("response.output_text.done", **place, text=answer.answer, logprobs=probabilities),
                make("response.content_part.done", **place, part=part),
                make("response.output_item.done", output_index=0, item=response["output"][0]),
                make(f"response.{response['status']}", response=response),
            )
        )

    def _response(self, status: str) -> Document:
        usual: Document = {
            **{"error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "output": []},
            **{"max_output_tokens": None, "parallel_tool_calls": False, "previous_response_id": None},
            **{"temperature": 0, "top_p": 1, "text": {"format": {"type": "text"}}, "tool_choice": "none"},
            **{"tools": [], "store": False, "truncation": "disabled", "usage": None},
        }
        own = {"id": self.id, "object": "response", "created_at": self.created, "status": status}
        return {**own, "model": self.completion.model, **usual, **self.echoed}

    def _item(self, answer: Answer | None, status: str) -> Document:
        content = [] if answer is None else [_part(answer)]
        return {
            **{"id": self.item, "type": "message", "status": status, "role": "assistant"},
            "content": content,
        }


def _part(answer: Answer | None) -> Document:
    told = None if answer is None else logprobs_field(answer)
    return {
        **{"type": "output_text", "text": "" if answer is None else answer.answer, "annotations": []},
        "logprobs": [] if told is None else told["content"],
    }


def _usage(answer: Answer) -> Document:
    tokens, made = answer.tokens, len(answer.token_ids)
    prompts = tokens.prefill + tokens.reused
    return {
        "input_tokens": prompts,
        "input_tokens_details": {"cached_tokens": tokens.reused},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompts + made,
    }


def _numbered() -> Make:
    """What writes one event after the other with its number."""
    numbers = itertools.count()

    def make(kind: str, **facts: object) -> bytes:
        document = {"type": kind, "sequence_number": next(numbers), **facts}
        return f"event: {kind}\ndata: ".encode() + encode(document) + b"\n\n"

    return make
