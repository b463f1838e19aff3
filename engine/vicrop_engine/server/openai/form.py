"""OpenAI's keys for the form of an answer, as a lenient server does them. Knows no transport."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from vicrop_engine.answer_form import ANY_OBJECT, MOST_TOP, AnswerForm
from vicrop_engine.errors import SchemaError, SettingError, shown
from vicrop_engine.server.openai.fields import typed
from vicrop_engine.server.openai.manner import Manner
from vicrop_engine.server.problem import bad_request

MOST_ANSWERS = 2  # the final one, and that without the crop
JSON_TOKENS = 512  # of an answer in JSON where the request says nothing: it has to be whole


class Form(NamedTuple):
    """How answers are to look, and how many of them are given."""

    answers: AnswerForm
    number: int = 1


def read_form(document: Mapping[str, Any], manner: Manner) -> Form:
    """The form a request asks for. Raises Problem."""
    if manner.strict:
        return Form(AnswerForm())
    schema = _schema(document)
    ignores = bool(typed(document, "ignore_eos", bool))
    if ignores and schema is not None:
        manner.note("ignore_eos", "ignore_eos was left out: an answer in JSON ends where the JSON does")
    try:
        form = AnswerForm(
            stop=_stops(document),
            ignore_eos=ignores and schema is None,
            json_schema=schema,
            top_logprobs=_top(document, manner),
            fits=True,
        )
    except SchemaError:
        raise
    except SettingError as error:
        raise bad_request(str(error), "stop") from error
    return Form(form, _number(document))


def _stops(document: Mapping[str, Any]) -> tuple[str, ...]:
    given = document.get("stop")
    if given is None or given == "":
        return ()
    stops = [given] if isinstance(given, str) else given
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise bad_request(f"got stop {shown(given)}, wanted text or a list of texts", "stop")
    return tuple(each for each in stops if each)


def _top(document: Mapping[str, Any], manner: Manner) -> int | None:
    """How many tokens are listed at each place of the answer; None where nothing of it is wanted."""
    wanted, top = typed(document, "logprobs", bool), typed(document, "top_logprobs", int)
    if not wanted and not top:
        return None
    top = top or 0
    if top < 0:
        raise bad_request(f"got top_logprobs {top}, wanted 0 to {MOST_TOP}", "top_logprobs")
    if top > MOST_TOP:
        manner.note("top_logprobs", f"top_logprobs {top} was taken as {MOST_TOP}, which is the most")
    return int(min(top, MOST_TOP))


def _number(document: Mapping[str, Any]) -> int:
    number = typed(document, "n", int)
    if number is None:
        return 1
    if not 1 <= number <= MOST_ANSWERS:
        message = f"got n {number}, and there are two answers, the final one and that without the crop"
        raise bad_request(f"{message}; give 1 or 2", "n", "unsupported_value")
    return int(number)


def _schema(document: Mapping[str, Any]) -> str | None:
    """The JSON schema as text; None for plain text. Raises Problem."""
    asked = typed(document, "response_format", dict)
    kind = None if asked is None else asked.get("type")
    if asked is None or kind == "text":
        return None
    if kind == "json_object":
        return ANY_OBJECT
    if kind != "json_schema":
        message = f"got response_format of type {shown(kind)}, wanted text, json_object or json_schema"
        raise bad_request(message, "response_format", "unsupported_value")
    named = typed(asked, "json_schema", dict, "response_format") or {}
    schema = named.get("schema")
    if not isinstance(schema, dict):
        where = "response_format.json_schema.schema"
        raise bad_request(f"got {where} {shown(schema)}, wanted a JSON schema as an object", where)
    return json.dumps(schema)
