"""Requests that get no answer: the status, the key that is wrong, and a sentence that says what to do."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.server.running import Running, chat, data_url, demo_text, small_picture

PICTURE = {"type": "image_url", "image_url": {"url": data_url(small_picture())}}
TEXT = {"type": "text", "text": "What is it?"}


def user(*parts: Any) -> dict[str, Any]:
    """A request with these parts."""
    return {"messages": [{"role": "user", "content": list(parts)}]}


def small(**more: Any) -> dict[str, Any]:
    """A request that would be answered but for `more`."""
    return chat("What is it?", small_picture(), **more)


def vicrop(**more: Any) -> dict[str, Any]:
    """The same with these settings."""
    return small(vicrop=more)


@pytest.fixture
def server(strict_server: Running) -> Running:
    """The strict one: what a lenient one leaves out instead is in test_lenient."""
    return strict_server


def refused(response: httpx.Response, status: int, param: str | None, *words: str) -> None:
    """Check for OpenAI's error document with these words and no more than a client should know."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert error["param"] == param, error
    for word in words:
        assert word in error["message"], error["message"]
    assert "Traceback" not in response.text
    assert "vicrop_engine" not in response.text
    assert "/home" not in response.text


DOCUMENTS = {
    "no messages": ({}, "messages", "got no messages"),
    "no pictures": (user(TEXT), "messages", "got no pictures, wanted exactly one"),
    "two pictures": (user(TEXT, PICTURE, PICTURE), "messages", "got 2 pictures, wanted exactly one"),
    "no question": (user(PICTURE), "messages", "no question; ask"),
    "a blank question": (user(PICTURE, {"type": "text", "text": " "}), "messages", "no question"),
    "a text for a picture": (
        {"messages": [{"role": "user", "content": "What?"}]},
        "messages",
        "got no pictures",
    ),
    "no user": (
        {"messages": [{"role": "system", "content": "Be brief."}]},
        "messages",
        "got no user message",
    ),
    "two users": ({"messages": [*user(TEXT, PICTURE)["messages"]] * 2}, "messages[1]", "several user"),
    "history": (
        {"messages": [{"role": "assistant", "content": "5"}]},
        "messages[0].role",
        "one question without history",
    ),
    "an unknown role": ({"messages": [{"role": "usr", "content": "5"}]}, "messages[0].role", "mean 'user'?"),
    "a role that is none": ({"messages": [{"role": 5, "content": "5"}]}, "messages[0].role", "wanted text"),
    "a message that is none": ({"messages": ["hello"]}, "messages[0]", "wanted an object"),
    "messages that are none": ({"messages": "hello"}, "messages", "wanted a list"),
    "content that is none": (
        {"messages": [{"role": "user", "content": 5}]},
        "messages[0]",
        "list of parts",
    ),
    "a part that is none": (user("x"), "messages[0].content[0]", "an object with a type"),
    "an unknown part": (
        user({"type": "image"}),
        "messages[0].content[0].type",
        "did you mean 'image_url'?",
    ),
    "a part without text": (user({"type": "text"}), "messages[0].content[0]", "has no text"),
    "a mistyped key of a part": (
        user({"type": "text", "texte": "x"}),
        "messages[0].content[0].texte",
        "unknown key 'texte' in messages[0].content[0]; did you mean 'text'?",
    ),
    "a picture as a string": (
        user({"type": "image_url", "image_url": "data:,"}),
        "messages[0].content[0].image_url",
        "wanted an object",
    ),
    "a picture without url": (
        user({"type": "image_url", "image_url": {}}),
        "messages[0].content[0].image_url.url",
        "url is missing",
    ),
    "an unknown detail": (
        user({"type": "image_url", "image_url": {"url": "data:,", "detail": "hihg"}}),
        "messages[0].content[0].image_url.detail",
        "did you mean 'high'?",
    ),
    "the system's picture": (
        {"messages": [{"role": "system", "content": [PICTURE]}]},
        "messages[0]",
        "wanted it in the user's",
    ),
    "a damaged picture": (
        chat("What?", b"\x89PNG\r\n\x1a\n" + b"0" * 50),
        "messages.image_url",
        "give a",
    ),
    "an unknown key": (small(temprature=0), "temprature", "unknown key 'temprature'; did you mean 'temp"),
    "another temperature": (small(temperature=0.2), "temperature", "leave it out, or give 0"),
    "a true temperature": (small(temperature=True), "temperature", "leave it out, or give 0"),
    "two answers": (small(n=2), "n", "one answer to a request; leave it out, or give 1"),
    "logprobs": (small(logprobs=True), "logprobs", "vicrop.confidence"),
    "tools": (small(tools=[{"type": "function"}]), "tools", "calls no tools; leave it out"),
    "stop words": (small(stop=["x"]), "stop", "or at max_tokens"),
    "a response format": (small(response_format={"type": "json_object"}), "response_format", "plain text"),
    "a web search": (
        small(web_search_options={}),
        "web_search_options",
        "looked up; leave it out",
    ),
    "no tokens": (small(max_tokens=0), "max_tokens", "from 1 up"),
    "half a token": (small(max_completion_tokens=1.5), "max_completion_tokens", "wanted a whole number"),
    "true tokens": (small(max_tokens=True), "max_tokens", "wanted a whole number"),
    "two limits": (small(max_tokens=3, max_completion_tokens=4), "max_tokens", "give one of them"),
    "too many tokens": (small(max_tokens=10**9), None, "tokens at most"),
    "stream as text": (small(stream="yes"), "stream", "wanted true or false"),
    "options without stream": (small(stream_options={"include_usage": True}), "stream_options", "without"),
    "an unknown option": (
        small(stream=True, stream_options={"usage": True}),
        "stream_options.usage",
        "did you mean 'include_usage'?",
    ),
    "a vicrop that is none": (small(vicrop="rel-att"), "vicrop", "wanted an object"),
    "an unknown setting": (vicrop(metod="none"), "vicrop.metod", "unknown key 'metod' in vicrop; did you"),
    "an unknown method": (vicrop(method="rel-at"), "vicrop.method", "did you mean 'rel-att'?"),
    "a method that is none": (vicrop(method=5), "vicrop.method", "wanted text"),
    "a method without model": (vicrop(method="clip"), "vicrop.method", "no model for that method"),
    "an unknown high_res": (vicrop(high_res="yes"), None, "unknown high_res 'yes'"),
    "an unknown layer": (vicrop(layers=99), "vicrop.layers", "99"),
    "a floor of text": (vicrop(divisor_floor="0.25"), "vicrop.divisor_floor", "wanted a number"),
    "a floor of nothing": (vicrop(divisor_floor=0), None, "wanted a share of a mean above 0"),
    "a target that is none": (vicrop(method="target", target=5), "vicrop.target", "wanted text"),
    "a target of rel-att": (vicrop(target="sign"), None, "does not look for a thing"),
    "a true layer": (vicrop(layers=True), "vicrop.layers", "a whole number or text"),
    "a box outside": (vicrop(box=[0, 0, 10, 5000]), "vicrop.box", "is not inside the picture"),
    "a box of text": (vicrop(box=["0", "0", "1", "1"]), "vicrop.box", "four whole numbers"),
    "a box of three": (vicrop(box=[0, 0, 1]), "vicrop.box", "four whole numbers"),
    "no crop tokens": (vicrop(crop_tokens=0), None, "from 1 up"),
    "an unknown compat": (vicrop(compat="x"), None, "known: mllms-know"),
    "an uncalibrated when": (vicrop(when="auto", method="pure-grad"), None, "pure-grad"),
    "a first answer not streamed": (
        vicrop(stream_first_answer=True),
        "vicrop.stream_first_answer",
        "without stream",
    ),
    "no first answer to stream": (
        small(stream=True, vicrop={"stream_first_answer": True, "first_answer": False}),
        "vicrop.stream_first_answer",
        "first_answer false",
    ),
    "half a surrogate pair": (chat("what \ud800", small_picture()), None, "half a surrogate pair"),
}


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        *(("maxTokens", "max_tokens"), ("max_new_tokens", "max_tokens"), ("top-p", "top_p")),
        *(("Temperature", "temperature"), ("strem", "stream"), ("frequencyPenalty", "frequency_penalty")),
        *((key, None) for key in ("guided_json", "priority", "cache_salt", "images", "prompt", "options")),
        *(
            (key, None)
            for key in ("session_id", "conversation_id", "max_length", "keep_alive", "thinking", "x")
        ),
    ],
)
def test_a_key_is_suggested_only_where_it_is_close(server: Running, key: str, meant: str | None) -> None:
    words = f"did you mean {meant!r}?" if meant else "leave it out"
    answer = server.post(small(**{key: 1}))
    refused(answer, 400, key, f"unknown key {key!r}; {words}")


@pytest.mark.parametrize("key", ["temperature", "metadata", "prompt", "zoom"])
def test_nor_is_a_setting_of_vicrop(server: Running, key: str) -> None:
    refused(server.post(vicrop(**{key: 1})), 400, f"vicrop.{key}", "in vicrop; leave it out")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents(server: Running, name: str) -> None:
    document, param, words = DOCUMENTS[name]
    refused(server.post(document), 400, param, words)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"[]", "wanted one JSON object"),
        (b'{"temperature": NaN}', "NaN, which JSON does not have"),
        (b'{"n": ' + b"9" * 5000 + b"}", "a number of 5000 digits"),
        (b'{"messages": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nested more than 32 deep"),
    ],
    ids=["empty", "cut off", "no text", "a list", "NaN", "a long number", "deep"],
)
def test_bodies(server: Running, body: bytes, words: str) -> None:
    with server.http() as http:
        headers = {"Content-Type": "application/json"}
        refused(http.post("/v1/chat/completions", content=body, headers=headers), 400, None, words)


def test_another_type_of_body(server: Running) -> None:
    """What a page of another origin could send without being allowed to."""
    with server.http() as http:
        headers = {"Content-Type": "text/plain"}
        answer = http.post("/v1/chat/completions", content=json.dumps(small()), headers=headers)
    refused(answer, 415, None, "Content-Type: application/json")


def test_addresses_and_methods_there_are_not(server: Running) -> None:
    with server.http() as http:
        refused(http.get("/v1/completions"), 404, None, "nothing at /v1/completions")
        refused(http.get("/v1/chat/completions"), 405, None, "does not take GET")
        refused(http.delete("/health"), 405, None, "does not take DELETE")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_time_that_is_none(server: Running, seconds: str) -> None:
    answer = server.post(small(), **{"X-Request-Timeout": seconds})
    refused(answer, 400, "X-Request-Timeout", "wanted seconds above 0")


def test_a_long_sentence_is_cut(server: Running) -> None:
    message = server.post(small(model="x" * 10_000)).json()["error"]["message"]
    assert len(message) < 700
    message = server.post({"x" * 10_000: 1}).json()["error"]["message"]
    assert len(message) < 700


def test_a_valid_request_is_answered_after_all_that(server: Running) -> None:
    assert server.post(chat(demo_text())).status_code == 200
