"""A request to `/v1/responses` as the chat request that it stands for. Knows no transport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vicrop_engine.errors import shown
from vicrop_engine.server.json_documents import Document
from vicrop_engine.server.openai.fields import given, typed
from vicrop_engine.server.openai.manner import Manner
from vicrop_engine.server.problem import Problem, bad_request

SAME = (  # as in chat
    *("model", "stream", "stream_options", "temperature", "top_p", "metadata", "user", "vicrop", "tools"),
    *("tool_choice", "parallel_tool_calls", "service_tier", "safety_identifier", "prompt_cache_key"),
    *("prompt_cache_retention", "seed", "stop", "top_logprobs", "frequency_penalty", "presence_penalty"),
)
RENAMED = {"max_output_tokens": "max_completion_tokens"}
ECHOED = ("instructions", "max_output_tokens", "metadata", "text", "user")
NOTHING = {  # with the values that ask for nothing done or kept here
    "truncation": ("auto", "disabled"),
    "store": (True, False),
    "background": (False,),
    "include": ([], ["message.output_text.logprobs"], ["reasoning.encrypted_content"]),
    "reasoning": ({},),
}
LOGPROBS = "message.output_text.logprobs"
STATE = ("previous_response_id", "conversation", "prompt")
PARTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "text"}


def as_chat(document: Mapping[str, Any], manner: Manner) -> Document:
    """The same request as a chat request's document. Raises Problem saying what cannot be used."""
    document = given(document)
    for key in STATE:
        if key in document:
            message = f"got {key} and this server keeps nothing between requests; send the whole input"
            raise bad_request(message, key, "unsupported_value")
    chat: Document = {key: document[key] for key in SAME if key in document}
    chat |= {there: document[here] for here, there in RENAMED.items() if here in document}
    if (form := _format(document, manner)) is not None:
        chat["response_format"] = form
    if LOGPROBS in (typed(document, "include", list) or []):
        chat["logprobs"] = True
    _leave_out(document, manner)
    instructions = typed(document, "instructions", str)
    spoken = [] if instructions is None else [{"role": "system", "content": instructions}]
    return {**chat, "messages": [*_messages(document.get("input"), manner), *spoken]}  # by input's numbers


def renamed(problem: Problem) -> Problem:
    """A refusal of the chat request, by the names that the client knows."""
    names = {there: here for here, there in RENAMED.items()}
    param = problem.param
    if param is not None:
        param = names.get(
            param, param.replace("messages", "input", 1) if param.startswith("messages") else param
        )
    return Problem(problem.status, problem.message, param=param, code=problem.code, headers=problem.headers)


def _leave_out(document: Mapping[str, Any], manner: Manner) -> None:
    known = {*SAME, *RENAMED, *NOTHING, "input", "instructions", "text"}
    for key, value in document.items():
        if key in NOTHING and value in NOTHING[key]:
            continue
        if key == "background" and value is True:
            raise bad_request("got background true and this server keeps no answers; leave it out", key)
        if key in NOTHING or key not in known:
            problem = bad_request(
                f"got {key[:100]} {shown(value)}, which is not done here; leave it out", key
            )
            manner.leave_out(problem, f"{key[:100]} was left out")


def _format(document: Mapping[str, Any], manner: Manner) -> Document | None:
    """`text.format` as chat's `response_format`."""
    text = typed(document, "text", dict)
    if text is None:
        return None
    for key in text.keys() - {"format"}:
        if text[key] not in (None, "medium"):
            path = f"text.{key[:100]}"
            manner.leave_out(bad_request(f"got {path}, which is not done here", path), f"{path} was left out")
    asked: Document | None = typed(text, "format", dict, "text")
    if asked is None or asked.get("type") != "json_schema":
        return asked
    return {"type": "json_schema", "json_schema": {"schema": asked.get("schema")}}


def _messages(asked: Any, manner: Manner) -> list[Document]:
    if isinstance(asked, str):
        return [{"role": "user", "content": asked}]
    if not isinstance(asked, list) or not asked:
        raise bad_request(f"got input {shown(asked)}, wanted text or a list of messages", "input")
    return [_message(item, f"input[{index}]", manner) for index, item in enumerate(asked)]


def _message(item: Any, where: str, manner: Manner) -> Document:
    """One item as a message, which is empty for what says nothing to a model that calls no tools."""
    if not isinstance(item, dict):
        raise bad_request(f"got {where} {shown(item)}, wanted an object with role and content", where)
    kind = item.get("type") or "message"
    if kind == "function_call_output":
        return {"role": "tool", "content": item.get("output")}
    if kind != "message":
        problem = bad_request(f"got {where} of type {shown(kind)}, wanted a message", f"{where}.type")
        manner.leave_out(problem, f"an item of type {shown(kind)} was left out")
        return {"role": "assistant", "content": []}
    content = item.get("content")
    if isinstance(content, list):
        content = [_part(part) for part in content]
    return {"role": item.get("role"), "content": content}


def _part(part: Any) -> Any:
    """A part by chat's names; what is none of them stays as it is, and is refused there."""
    if not isinstance(part, dict):
        return part
    kind = part.get("type")
    if kind == "input_image":
        image = {"url": part.get("image_url")}
        detail = {} if part.get("detail") in (None, "original") else {"detail": part["detail"]}
        return {"type": "image_url", "image_url": {**image, **detail}}
    if isinstance(kind, str) and kind in PARTS:
        return {"type": "text", "text": part.get("refusal" if kind == "refusal" else "text")}
    return part
