"""What a lenient server makes of requests that ask for what is not done: an answer, and a word about it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.server.openai.client_shapes import (
    SAID,
    SHAPES,
    chat,
    picture_part,
    text_part,
    user,
)
from tests.server.openai.lenient import ASKED, answered, asked, events, own, said, text_of
from tests.server.running import MODEL, SECONDS, Running, data_url, demo_picture, demo_text, small_picture
from vicrop_engine.answer_form import AnswerForm
from vicrop_engine.server.openai.manner import HEADER, MOST_NOTICES


@pytest.mark.parametrize("client", SHAPES)
def test_what_clients_send_is_answered_and_what_was_left_out_said(server: Running, client: str) -> None:
    response = server.post(SHAPES[client])
    assert response.status_code == 200, response.text
    assert said(response) == SAID[client]
    streamed = bool(SHAPES[client].get("stream"))
    whole = events(response)[-1] if streamed else response.json()
    assert whole["usage"]["completion_tokens"] > 0
    assert bool(whole["vicrop"]["notices"]) == bool(SAID[client])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("temperature", 0.7), ("top_p", 0.5), ("top_k", 40), ("frequency_penalty", 1.5)),
        *(("logit_bias", {"5": -100}), ("verbosity", "low"), ("reasoning_effort", "high"), ("min_p", 0.1)),
        *(("min_tokens", 5), ("best_of", 4), ("prediction", {"type": "content"}), ("store", True)),
        *(("modalities", ["text", "audio"]), ("chat_template_kwargs", {"x": 1}), ("echo", True)),
        *(
            ("tools", [{"type": "function"}]),
            ("priority", 3),
            ("unknown", {"a": [1]}),
            ("temperature", "hot"),
        ),
    ],
)
def test_the_answer_is_that_without_the_key(server: Running, key: str, value: Any) -> None:
    response = server.post(asked(**{key: value}))
    document, expected = answered(response), own(server)
    assert (text_of(document), document["vicrop"]["confidence"]) == (
        expected.answer,
        expected.to_json()["confidence"],
    )
    assert said(response) == {key}
    assert any(key in notice for notice in document["vicrop"]["notices"])


def test_a_plain_request_has_nothing_to_be_said_of(server: Running) -> None:
    response = server.post(asked(temperature=0, seed=1, user="u"))
    assert HEADER not in response.headers
    assert answered(response)["vicrop"]["notices"] == []


def test_the_last_question_is_asked_about_the_latest_picture(server: Running) -> None:
    """In the very words the engine is asked with, so that the crop is looked for with the question alone."""
    document = chat(
        user(text_part("What is this?"), picture_part(data_url(small_picture()))),
        {"role": "assistant", "content": "a pattern"},
        user(text_part("And this?"), picture_part()),
        {"role": "assistant", "content": [{"type": "text", "text": "a street"}]},
        {"role": "user", "content": demo_text()},
    )
    found = answered(server.post(document))
    history = ("User: What is this?", "Assistant: a pattern", "User: And this?", "Assistant: a street")
    expected = own(server, history=history, form=AnswerForm(fits=True))
    assert text_of(found) == expected.answer
    assert found["vicrop"]["confidence"] == expected.to_json()["confidence"]
    assert found["vicrop"]["crop_box"] == list(expected.crop_box or ())
    assert found["usage"]["prompt_tokens"] == expected.tokens.prefill + expected.tokens.reused
    assert any("of 2 pictures" in notice for notice in found["vicrop"]["notices"])


def test_a_conversation_shares_the_pictures_prefix(server: Running) -> None:
    answered(server.post(asked()))
    again = chat(
        user(*ASKED), {"role": "assistant", "content": "5"}, {"role": "user", "content": "And the other?"}
    )
    assert answered(server.post(again))["vicrop"]["reused"]["prefix"] == 1


def test_a_history_beyond_the_context_loses_its_oldest_turns(server: Running) -> None:
    turns = itertools.cycle(
        [{"role": "user", "content": "word " * 50}, {"role": "assistant", "content": "a"}]
    )
    document = chat(*itertools.islice(turns, 100), user(*ASKED))
    notices = answered(server.post(document))["vicrop"]["notices"]
    assert any("oldest turns do not fit" in notice for notice in notices)


def test_tools_and_their_calls_are_text(server: Running) -> None:
    document = chat(
        user(*ASKED),
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]},
        {"role": "tool", "tool_call_id": "1", "content": "it rains"},
        {"role": "user", "content": "So what?"},
    )
    response = server.post(document)
    assert (
        text_of(answered(response))
        == own(
            server, "So what?", history=(f"User: {demo_text()}", "Tool: it rains"), form=AnswerForm(fits=True)
        ).answer
    )
    assert said(response) == {"messages", "messages[1].tool_calls", "messages[2].tool_call_id"}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look"}}])
def test_a_call_that_is_demanded_is_refused(server: Running, choice: Any) -> None:
    response = server.post(asked(tools=[{"type": "function"}], tool_choice=choice))
    assert (response.status_code, response.json()["error"]["param"]) == (400, "tool_choice")


def test_text_alone_is_answered_by_the_language_model(server: Running) -> None:
    response = server.post(chat({"role": "user", "content": "What is 1 + 1?"}))
    document = answered(response)
    expected = server.scheduler.submit(None, "What is 1 + 1?").future.result(SECONDS)
    assert text_of(document) == expected.answer
    vicrop = document["vicrop"]
    assert (vicrop["crop_box"], vicrop["method"], vicrop["image_size"]) == (None, "none", [0, 0])
    assert "no picture came" in vicrop["notices"][0]


def test_text_alone_is_streamed(server: Running) -> None:
    response = server.post(chat({"role": "user", "content": "What is 1 + 1?"}, stream=True))
    pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in events(response)]
    assert "".join(pieces) == server.scheduler.submit(None, "What is 1 + 1?").future.result(SECONDS).answer
    assert said(response) == {"messages"}


@pytest.mark.parametrize("tokens", [32_768, -1, 10**25])
def test_a_long_answer_is_shortened_to_the_context(server: Running, tokens: int) -> None:
    document = answered(server.post(asked(max_tokens=tokens)))
    assert text_of(document) == own(server).answer
    assert any("fit the model's context" in notice for notice in document["vicrop"]["notices"])


def test_the_newer_of_two_limits_holds(server: Running) -> None:
    response = server.post(asked(max_tokens=5, max_completion_tokens=1))
    assert answered(response)["usage"]["completion_tokens"] == 1
    assert said(response) == {"max_tokens"}


@pytest.mark.parametrize(
    ("more", "param", "words"),
    [
        ({"n": 3}, "n", "give 1 or 2"),
        ({"n": 2, "vicrop": {"first_answer": False}}, "n", "leaves one answer"),
        ({"max_tokens": 0}, "max_tokens", "from 1 up"),
        ({"max_tokens": -2}, "max_tokens", "from 1 up"),
        ({"stop": [5]}, "stop", "list of texts"),
        ({"stop": ["x"] * 17}, "stop", "at most 16"),
        ({"logprobs": "yes"}, "logprobs", "true or false"),
        ({"response_format": {"type": "xml"}}, "response_format", "json_schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema", "wanted a JSON"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "frob"}}}},
            "response_format",
            "cannot be used",
        ),
        ({"vicrop": {"metod": "none"}}, "vicrop.metod", "did you mean 'method'?"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"model": "gpt-4o"}, "model", "this server has 'llava-signs'"),
    ],
)
def test_what_cannot_be_made_sense_of_is_still_refused(
    server: Running, more: dict[str, Any], param: str, words: str
) -> None:
    response = server.post(asked(**more))
    assert response.status_code in (400, 404)
    error = response.json()["error"]
    assert error["param"] == param
    assert words in error["message"]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "assistant", "content": "5"}], "messages"),
        ([user(picture_part())], "messages"),
        ([{"role": "usr", "content": "5"}], "messages[0].role"),
        ([user({"type": "input_audio"})], "messages[0].content[0].type"),
        ([user({"type": "image", "source": {}})], "messages[0].content[0].source"),
        ([user(text_part("<image> what?"))], "messages"),
    ],
)
def test_neither_are_such_messages(server: Running, messages: list[Any], param: str) -> None:
    response = server.post(chat(*messages))
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": data_url(demo_picture())},
        {"type": "input_image", "image_url": data_url(demo_picture()), "detail": "auto"},
        {"type": "image", "image": data_url(demo_picture())},
        {
            "type": "image",
            "source": {
                "type": "base64",
                "media_type": "image/png",
                "data": data_url(demo_picture()).partition(",")[2],
            },
        },
        {**picture_part(), "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": data_url(demo_picture()), "format": "image/png"}},
        {"type": "image_url", "image_url": {"url": data_url(demo_picture()), "detail": "original"}},
    ],
    ids=["text", "responses", "Qwen", "Anthropic", "cache_control", "format", "detail"],
)
def test_a_picture_by_other_names(server: Running, part: dict[str, Any]) -> None:
    assert text_of(answered(server.post(chat(user(text_part(), part))))) == own(server).answer


def test_many_notices_are_bounded(server: Running) -> None:
    response = server.post(asked(**{f"unknown {number}\n é": 1 for number in range(200)}))
    notices = answered(response)["vicrop"]["notices"]
    assert len(notices) == MOST_NOTICES + 1
    assert notices[-1] == f"and {200 - MOST_NOTICES} more of the kind"
    assert len(response.headers[HEADER]) < 2000
    assert response.headers[HEADER].startswith("unknown?0???")


def test_the_model_is_answered_under_its_name(server: Running) -> None:
    assert answered(server.post(asked()))["model"] == MODEL
