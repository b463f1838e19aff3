"""A chat request: the document, checked key by key, to what is submitted. Knows no transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from vicrop_engine.errors import nearest, shown
from vicrop_engine.server.json_documents import parse_text
from vicrop_engine.server.openai.fields import (
    KNOWN,
    check_keys,
    check_neutral,
    given,
    token_limit,
    typed,
    wants_usage,
)
from vicrop_engine.server.openai.form import JSON_TOKENS, read_form
from vicrop_engine.server.openai.manner import Manner, Notice
from vicrop_engine.server.openai.messages import read_messages
from vicrop_engine.server.problem import Problem, bad_request
from vicrop_engine.server.settings import ServerSettings
from vicrop_engine.vicrop.params import AskParams

OF_ASK: dict[str, tuple[type, ...]] = {
    "method": (str,),
    "high_res": (str,),
    "layers": (int, str),
    "when": (str,),
    "first_answer": (bool,),
    "localize": (str,),
    "box": (list,),
    "crop_tokens": (int, str),
    "picture_tiles": (str,),
    "crop_tiles": (str,),
    "max_pixels": (int,),
    "crop_min_pixels": (int,),
    "divisor_floor": (float, int),
    "target": (str,),
    "compat": (str,),
}
OF_ANSWER = ("return_heatmap", "stream_first_answer")
_NAMES = {
    **{str: "text", int: "a whole number", bool: "true or false", float: "a number"},
    list: "a list of four whole numbers",
}


class Served(NamedTuple):
    """The model that is served: what clients may call it, and how many tokens its context holds."""

    names: tuple[str, ...]
    context: int


@dataclass(frozen=True)
class ChatRequest:
    """One question about the picture at `image_url`, and the form its answer is wanted in.

    Without a URL it is about nothing but text. `params` say how it is answered, `model` is what it calls the
    model, `number` how many answers are given, and `notices` what of the request was left out.
    """

    image_url: str | None
    question: str
    params: AskParams
    model: str = ""
    stream: bool = False
    include_usage: bool = False
    return_heatmap: bool = False
    stream_first_answer: bool = False
    number: int = 1
    notices: tuple[Notice, ...] = ()


def decode(text: str) -> dict[str, Any]:
    """The JSON object in a body's text. Raises BodyError and Problem."""
    document = parse_text(text)
    if not isinstance(document, dict):
        raise bad_request(f"the body is {shown(document)}, wanted one JSON object")
    return document


def read_chat(
    document: Mapping[str, Any], settings: ServerSettings, served: Served, manner: Manner | None = None
) -> ChatRequest:
    """What a request to this model asks for. Raises Problem saying what cannot be used."""
    document, manner = given(document), manner or Manner(settings.strict)
    check_keys(document, KNOWN, manner=manner)
    model = _model(typed(document, "model", str), served.names)
    check_neutral(document, manner)
    form = read_form(document, manner)
    messages = typed(document, "messages", list)
    if not messages:
        raise bad_request(
            "got no messages, wanted one of role 'user' with a question and a picture", "messages"
        )
    asked = read_messages(messages, manner)
    stream = bool(typed(document, "stream", bool))
    vicrop = given(typed(document, "vicrop", dict) or {})
    check_keys(vicrop, (*OF_ASK, *OF_ANSWER), "vicrop")
    heatmap, early = (bool(typed(vicrop, key, bool, "vicrop")) for key in OF_ANSWER)
    if early and not (stream and vicrop.get("first_answer", True)):
        raise bad_request(
            "got vicrop.stream_first_answer without stream, or with first_answer false, where nothing of it "
            "can be streamed; leave it out",
            "vicrop.stream_first_answer",
        )
    if form.number > 1 and not vicrop.get("first_answer", True):
        raise bad_request(
            "got n 2 and vicrop.first_answer false, which leaves one answer; leave one out", "n"
        )
    if asked.localize is not None:
        vicrop = {"localize": asked.localize, **vicrop}
    usual = settings.max_tokens
    usual = usual if form.answers.json_schema is None else max(usual, JSON_TOKENS)
    params = _params(vicrop, settings, token_limit(document, usual, served.context, manner))
    params = replace(params, history=asked.history, form=None if settings.strict else form.answers)
    return ChatRequest(
        asked.image_url,
        asked.question,
        params,
        model,
        stream,
        wants_usage(document, stream=stream, manner=manner),
        heatmap,
        early,
        form.number,
        tuple(manner.notices),
    )


def _params(vicrop: Mapping[str, Any], settings: ServerSettings, max_new_tokens: int) -> AskParams:
    """Raises Problem, and what AskParams raises."""
    keywords: dict[str, Any] = {"max_new_tokens": max_new_tokens}
    for key, kinds in OF_ASK.items():
        if key in vicrop:
            keywords[key] = _of_kind(key, vicrop[key], kinds)
    if "when" not in keywords and "box" not in keywords and settings.when != "always":
        keywords["when"] = settings.when
    return AskParams.of(keywords)


def _of_kind(key: str, value: Any, kinds: tuple[type, ...]) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(_NAMES[kind] for kind in kinds if kind is float or float not in kinds)
        raise bad_request(f"got vicrop.{key} {shown(value)}, wanted {wanted}", f"vicrop.{key}")
    if isinstance(value, list) and not all(type(side) is int for side in value):
        raise bad_request(f"got vicrop.{key} {shown(value)}, wanted {_NAMES[list]}", f"vicrop.{key}")
    return value


def _model(asked: str | None, names: tuple[str, ...]) -> str:
    """What the request calls the model, one of its `names`; the first where it does not say."""
    if asked is not None and asked not in names:
        raise Problem(
            404,
            f"unknown model {asked[:100]!r}{nearest(asked[:100], names)}; this server has {told(names)}",
            param="model",
            code="model_not_found",
        )
    return names[0] if asked is None else asked


def told(names: tuple[str, ...]) -> str:
    """The names of a model in a sentence."""
    return ", ".join(map(repr, names))
