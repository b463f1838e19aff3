"""What a request's answer becomes for its client, whichever of OpenAI's APIs it came by."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

from vicrop_engine.server.json_documents import Document
from vicrop_engine.server.openai.events import Event
from vicrop_engine.server.openai.responses import Completion
from vicrop_engine.server.openai.sse import chunks
from vicrop_engine.server.problem import Problem
from vicrop_engine.vicrop.answer import Answer

VicropField = Callable[[Answer], Document]
Failed = Callable[[Exception], Problem]


class Reply(Protocol):
    """The documents of one answer."""

    def whole(self, answer: Answer, vicrop: Document) -> Document:
        """The answer to a request without `stream`."""

    def stream(
        self, events: AsyncGenerator[Event], vicrop: VicropField, failed: Failed
    ) -> AsyncGenerator[bytes]:
        """The events as the API has them, from the first on, which is had by then; closes `events`."""


@dataclass(frozen=True)
class ChatReply:
    """As `/v1/chat/completions` has it."""

    completion: Completion
    include_usage: bool

    def whole(self, answer: Answer, vicrop: Document) -> Document:
        """`Completion.whole`."""
        return self.completion.whole(answer, vicrop)

    def stream(
        self, events: AsyncGenerator[Event], vicrop: VicropField, failed: Failed
    ) -> AsyncGenerator[bytes]:
        """OpenAI's chunks."""
        return chunks(events, self.completion, vicrop, failed, include_usage=self.include_usage)
