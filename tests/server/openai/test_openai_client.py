"""The official `openai` client against a server of the embedded engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.server.running import MODEL, SECONDS, Running, chat, demo_picture, demo_text
from vicrop_engine.vicrop.answer import Answer

TIMES = {"timings", "tokens"}  # of what differs between two asks of one question


@pytest.fixture
def client(server: Running) -> Iterator[OpenAI]:
    with server.client() as client:
        yield client


def asked(**more: Any) -> dict[str, Any]:
    """The keywords of the client's `create`."""
    document = chat(**more)
    extra = {"vicrop": document.pop("vicrop")} if "vicrop" in document else None
    return {**document, "extra_body": extra}


def answered(server: Running, question: str | None = None) -> Answer:
    """The answer of the scheduler behind the server."""
    handle = server.scheduler.submit(demo_picture(), demo_text() if question is None else question)
    return handle.future.result(SECONDS)


def test_an_answer_is_the_schedulers_own(client: OpenAI, server: Running) -> None:
    completion = client.chat.completions.create(**asked())
    expected = answered(server)
    choice = completion.choices[0]
    assert (choice.message.role, choice.message.content) == ("assistant", expected.answer)
    assert expected.answer != expected.answer_without_crop
    assert (completion.object, completion.model, choice.finish_reason) == ("chat.completion", MODEL, "stop")
    vicrop = completion.model_extra["vicrop"]
    wanted = {**expected.to_json(), "heatmap": None}
    assert set(wanted) < set(vicrop)
    assert {key: vicrop[key] for key in set(wanted) - TIMES} == {
        key: wanted[key] for key in set(wanted) - TIMES
    }
    assert set(vicrop["timings"]) == set(wanted["timings"])
    assert set(vicrop["reused"]) == {"prefix", "image_embeds", "general", "shared"}
    usage = completion.usage
    assert usage.completion_tokens == len(expected.token_ids)
    assert usage.prompt_tokens == expected.tokens.prefill + expected.tokens.reused
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_the_heatmap_comes_on_request(client: OpenAI, server: Running) -> None:
    completion = client.chat.completions.create(**asked(vicrop={"return_heatmap": True}))
    expected = answered(server)
    vicrop = completion.model_extra["vicrop"]
    assert vicrop["heatmap"] == expected.to_json()["heatmap"]
    assert vicrop["heatmap_box"] == list(expected.heatmap_box)


def test_what_was_reused_is_said(client: OpenAI) -> None:
    client.chat.completions.create(**asked())
    again = client.chat.completions.create(**asked())
    assert again.model_extra["vicrop"]["reused"]["prefix"] == 1
    assert again.usage.prompt_tokens_details.cached_tokens > 0


def test_settings_reach_the_engine(client: OpenAI) -> None:
    settings = {"box": [10, 20, 110, 220], "first_answer": False, "high_res": "off", "crop_tokens": 36}
    vicrop = client.chat.completions.create(**asked(vicrop=settings)).model_extra["vicrop"]
    assert (vicrop["crop_box"], vicrop["answer_without_crop"]) == ([10, 20, 110, 220], None)
    settings = {"method": "none", "localize": "Where is the sign?"}
    vicrop = client.chat.completions.create(**asked(vicrop=settings)).model_extra["vicrop"]
    assert (vicrop["crop_box"], vicrop["method"]) == (None, "none")
    settings = {"layers": "0-2", "compat": "mllms-know", "when": "always"}
    vicrop = client.chat.completions.create(**asked(vicrop=settings)).model_extra["vicrop"]
    assert vicrop["layers"] == [0, 1, 2]


def test_a_short_answer_says_that_it_was_cut_off(client: OpenAI) -> None:
    for key in ("max_tokens", "max_completion_tokens"):
        completion = client.chat.completions.create(**asked(**{key: 1}))
        assert completion.choices[0].finish_reason == "length"
        assert completion.usage.completion_tokens == 1


def test_what_changes_nothing_is_accepted(client: OpenAI) -> None:
    neutral = {"temperature": 0, "top_p": 1, "n": 1, "seed": 7, "user": "u", "logprobs": False, "stop": None}
    completion = client.chat.completions.create(**asked(**neutral, metadata={"a": "b"}, store=False))
    assert completion.choices[0].finish_reason == "stop"


def test_texts_are_joined_and_the_systems_stands_in_front(client: OpenAI, server: Running) -> None:
    document = chat()
    text, image = document["messages"][0]["content"]
    more = {"type": "text", "text": "Answer with what is written."}
    messages = [
        {"role": "system", "content": "You read signs."},
        {"role": "user", "content": [text, image, more]},
    ]
    completion = client.chat.completions.create(model=MODEL, messages=messages)
    question = f"You read signs.\n{demo_text()}\nAnswer with what is written."
    own = f"{demo_text()}\nAnswer with what is written."
    expected = server.scheduler.submit(demo_picture(), question, localize=own).future.result(SECONDS)
    vicrop = completion.model_extra["vicrop"]
    assert completion.choices[0].message.content == expected.answer
    assert completion.usage.prompt_tokens == expected.tokens.prefill + expected.tokens.reused
    assert vicrop["confidence"] == expected.to_json()["confidence"]


def test_a_stream_is_the_answer_in_pieces(client: OpenAI, server: Running) -> None:
    expected = answered(server)
    *pieces, last = client.chat.completions.create(**asked(stream=True))
    assert pieces[0].choices[0].delta.role == "assistant"
    assert "".join(piece.choices[0].delta.content for piece in pieces) == expected.answer
    assert all(piece.choices[0].finish_reason is None for piece in pieces)
    assert not any("vicrop" in piece.model_extra for piece in pieces)
    assert (last.choices[0].finish_reason, last.usage) == ("stop", None)
    assert last.model_extra["vicrop"]["crop_box"] == list(expected.crop_box)
    assert {piece.id for piece in pieces} == {last.id}


def test_a_stream_ends_with_the_tokens_when_asked(client: OpenAI) -> None:
    options = {"include_usage": True}
    *pieces, before, last = client.chat.completions.create(**asked(stream=True, stream_options=options))
    assert (before.choices[0].finish_reason, before.usage) == ("stop", None)
    assert all(piece.usage is None for piece in pieces)
    assert last.choices == []
    assert last.usage.completion_tokens == last.model_extra["vicrop"]["tokens"]["decoded"] / 2
    assert "vicrop" not in before.model_extra


def test_the_first_answer_is_streamed_when_asked(client: OpenAI) -> None:
    chunks = list(client.chat.completions.create(**asked(stream=True, vicrop={"stream_first_answer": True})))
    early = [chunk.model_extra["vicrop"] for chunk in chunks[:-1] if "vicrop" in chunk.model_extra]
    whole = chunks[-1].model_extra["vicrop"]
    assert early[-1] == {"answer_without_crop": whole["answer_without_crop"]}
    assert len(early) == len({piece["answer_without_crop"] for piece in early})
    assert chunks[0].choices[0].delta.role == "assistant"


def test_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "vicrop-engine"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-4o")
    assert caught.value.code == "model_not_found"


def test_errors_are_the_clients_own(client: OpenAI, strict_server: Running) -> None:
    with strict_server.client() as strict, pytest.raises(openai.BadRequestError) as caught:
        strict.chat.completions.create(**asked(temperature=0.7))
    assert (caught.value.param, caught.value.type) == ("temperature", "invalid_request_error")
    with pytest.raises(openai.NotFoundError, match="this server has 'llava-signs'"):
        client.chat.completions.create(**{**asked(), "model": "llava-sings"})
    with pytest.raises(openai.BadRequestError, match="reads as a sign"):
        client.chat.completions.create(**asked(text="<image> what?", stream=True))
