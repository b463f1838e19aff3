"""The form of answers by OpenAI's keys: where they end, how many there are, their probabilities, JSON."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from tests.server.openai.client_shapes import GUIDELLM, SCHEMA, chat, picture_part, text_part, user
from tests.server.openai.lenient import answered, asked, events, own, said, text_of
from tests.server.running import Running
from vicrop_engine.answer_form import AnswerForm

GENERAL = "Write a general description of the image."


def test_ignore_eos_writes_on_to_the_limit(server: Running) -> None:
    chunks = events(server.post(GUIDELLM))
    assert chunks[-1]["usage"]["completion_tokens"] == 6
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stop", ["white", ["nowhere", "white"]])
def test_stop_cuts_the_answer(server: Running, stop: Any, stream: bool) -> None:
    whole = own(server, GENERAL, form=AnswerForm(ignore_eos=True)).answer
    described = chat(user(text_part(GENERAL), picture_part()), stop=stop, ignore_eos=True, stream=stream)
    response = server.post(described)
    if stream:
        chunks = events(response)
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        reason = chunks[-1]["choices"][0]["finish_reason"]
    else:
        document = answered(response)
        text, reason = text_of(document), document["choices"][0]["finish_reason"]
    assert (text, reason) == (whole[: whole.index("white")].strip(), "stop")


def test_log_probabilities_are_given(server: Running) -> None:
    choice = answered(server.post(asked(logprobs=True, top_logprobs=2)))["choices"][0]
    content = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in content) == choice["message"]["content"]
    for token in content:
        assert bytes(token["bytes"]).decode() == token["token"]
        assert token["top_logprobs"][0]["logprob"] == token["logprob"] <= 0
        assert len(token["top_logprobs"]) == 2
    assert answered(server.post(asked()))["choices"][0]["logprobs"] is None
    chunks = events(server.post(asked(logprobs=True, top_logprobs=2, stream=True)))
    assert chunks[-1]["choices"][0]["logprobs"]["content"] == content
    assert said(server.post(asked(logprobs=True, top_logprobs=50))) == {"top_logprobs"}


@pytest.mark.parametrize("form", [{"type": "json_schema", "json_schema": {"schema": SCHEMA}}, "object"])
def test_an_answer_in_json_fits_its_schema(server: Running, form: Any) -> None:
    form = {"type": "json_object"} if form == "object" else form
    choice = answered(server.post(asked(response_format=form)))["choices"][0]
    found = json.loads(choice["message"]["content"])
    jsonschema.validate(found, SCHEMA if form["type"] == "json_schema" else {"type": "object"})
    assert choice["finish_reason"] == "stop"


def test_two_answers_are_the_final_one_and_the_first(server: Running) -> None:
    expected = own(server)
    assert expected.answer != expected.answer_without_crop
    wanted = [(0, expected.answer, "stop"), (1, expected.answer_without_crop, "stop")]
    document = answered(server.post(asked(n=2)))
    choices = document["choices"]
    assert [(each["index"], each["message"]["content"], each["finish_reason"]) for each in choices] == wanted
    assert document["usage"]["completion_tokens"] == document["vicrop"]["tokens"]["decoded"]
    texts, reasons = {0: "", 1: ""}, {}
    for chunk in events(server.post(asked(n=2, stream=True))):
        for each in chunk["choices"]:
            texts[each["index"]] += each["delta"].get("content", "")
            reasons[each["index"]] = each["finish_reason"]
    assert [(index, texts[index], reasons[index]) for index in (0, 1)] == wanted
