"""The default calls of clients that are installed beside this file: run by scripts/real_clients.py.

    python scripts/real_client_calls.py URL PICTURE QUESTION

Knows nothing of this repository. Writes a JSON line for each call: client, version, call, and what came, or
the error; a client that is not installed is left out.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

MODEL = "llava-signs"
Call = tuple[str, Callable[[], Any]]


def langchain(url: str, picture: str, question: str) -> Iterator[Call]:
    """ChatOpenAI: invoke, stream, with history, with_structured_output."""
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
    from langchain_openai import ChatOpenAI
    from pydantic import BaseModel

    class Reading(BaseModel):
        """What a sign says."""

        answer: str

    model = ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key="none", max_retries=0)
    parts = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": picture}}]
    asked = HumanMessage(content=parts)
    history = [SystemMessage("You are helpful."), asked, AIMessage("5"), HumanMessage("Are you sure?")]
    yield "invoke", lambda: model.invoke([asked]).content
    yield "stream", lambda: "".join(chunk.content for chunk in model.stream([asked]))
    yield "invoke with history", lambda: model.invoke(history).content
    yield "with_structured_output", lambda: model.with_structured_output(Reading).invoke([asked]).answer
    newer = ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key="none", use_responses_api=True)
    yield "invoke by /v1/responses", lambda: newer.invoke([asked]).text


def llama_index(url: str, picture: str, question: str) -> Iterator[Call]:
    """OpenAILike: chat, stream_chat, complete."""
    from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
    from llama_index.llms.openai_like import OpenAILike

    model = OpenAILike(model=MODEL, api_base=f"{url}/v1", api_key="none", is_chat_model=True, max_retries=0)
    image = ImageBlock(image=picture.partition(",")[2].encode(), image_mimetype="image/png")
    asked = ChatMessage(role="user", blocks=[TextBlock(text=question), image])
    history = [asked, ChatMessage(role="assistant", content="5"), ChatMessage(role="user", content="Sure?")]
    yield "chat", lambda: model.chat([asked]).message.content
    yield "stream_chat", lambda: "".join(part.delta or "" for part in model.stream_chat([asked]))
    yield "chat with history", lambda: model.chat(history).message.content
    yield "complete", lambda: model.complete("What is 1 + 1?").text


def litellm(url: str, picture: str, question: str) -> Iterator[Call]:
    """completion, whole and streamed, and the health check of its proxy."""
    import litellm as library

    where: dict[str, Any] = {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": "none"}
    parts = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": picture}}]
    messages = [{"role": "user", "content": parts}]

    def streamed() -> str:
        chunks = library.completion(**where, messages=messages, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    def health() -> str:
        from litellm.proxy.health_check import perform_health_check

        models = [{"model_name": MODEL, "litellm_params": where, "model_info": {"id": "1"}}]
        healthy, unhealthy, *_ = asyncio.run(perform_health_check(models))
        if unhealthy or not healthy:
            raise RuntimeError(str(unhealthy))
        return "healthy"

    yield "completion", lambda: library.completion(**where, messages=messages).choices[0].message.content
    yield "completion, streamed", streamed
    yield "the proxy's health check", health


CLIENTS = {
    "langchain-openai": langchain,
    "llama-index-llms-openai-like": llama_index,
    "litellm": litellm,
}


def main() -> int:
    """Make every call of every client there is."""
    url, path, question = sys.argv[1:4]
    picture = f"data:image/png;base64,{base64.b64encode(Path(path).read_bytes()).decode()}"
    for name, calls in CLIENTS.items():
        try:
            number = version(name)
        except PackageNotFoundError:
            continue
        for call, make in calls(url, picture, question):
            found: dict[str, Any] = {"client": name, "version": number, "call": call}
            try:
                found["answer"] = make()
            except Exception as error:
                found["error"] = f"{type(error).__name__}: {error}"[:300]
            print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
