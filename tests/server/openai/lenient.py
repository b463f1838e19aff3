"""Requests to a lenient server, and what is looked at in its answers."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.server.openai.client_shapes import chat, picture_part, text_part, user
from tests.server.running import SECONDS, Running, demo_picture, demo_text
from vicrop_engine.server.openai.manner import HEADER
from vicrop_engine.vicrop.answer import Answer

ASKED = (text_part(), picture_part())


def asked(**more: Any) -> dict[str, Any]:
    """The demo's question with further keys."""
    return chat(user(*ASKED), **more)


def own(server: Running, question: str | None = None, **keywords: Any) -> Answer:
    """The answer of the scheduler behind the server."""
    question = demo_text() if question is None else question
    return server.scheduler.submit(demo_picture(), question, **keywords).future.result(SECONDS)


def answered(response: httpx.Response) -> dict[str, Any]:
    """The document of an answer."""
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def text_of(document: dict[str, Any]) -> str:
    """The first choice's text."""
    return str(document["choices"][0]["message"]["content"])


def said(response: httpx.Response) -> set[str]:
    """The keys that the header names."""
    return set(filter(None, response.headers.get(HEADER, "").split(", ")))


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """The chunks of a stream, which ends as OpenAI's do."""
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]
