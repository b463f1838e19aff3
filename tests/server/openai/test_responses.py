"""`/v1/responses` by the official client: whole, streamed, in JSON, with what was said before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.server.running import MODEL, SECONDS, Running, chat, data_url, demo_picture, demo_text
from vicrop_engine.answer_form import AnswerForm
from vicrop_engine.server.openai.manner import HEADER
from vicrop_engine.vicrop.answer import Answer

PARTS = [
    {"type": "input_text", "text": demo_text()},
    {"type": "input_image", "image_url": data_url(demo_picture()), "detail": "auto"},
]
INPUT: Any = [{"role": "user", "content": PARTS}]


class Reading(BaseModel):
    """What a sign says."""

    answer: str


@pytest.fixture
def client(server: Running) -> Iterator[OpenAI]:
    with server.client() as client:
        yield client


def own(server: Running, **keywords: Any) -> Answer:
    return server.scheduler.submit(demo_picture(), demo_text(), **keywords).future.result(SECONDS)


def test_a_response_is_the_answer(client: OpenAI, server: Running) -> None:
    response = client.responses.create(model=MODEL, input=INPUT)
    expected = own(server)
    assert (response.output_text, response.status) == (expected.answer, "completed")
    assert (response.object, response.model, response.error) == ("response", MODEL, None)
    assert response.usage is not None
    assert response.usage.output_tokens == len(expected.token_ids)
    assert response.usage.input_tokens == expected.tokens.prefill + expected.tokens.reused
    vicrop = response.model_extra["vicrop"]
    assert vicrop["crop_box"] == list(expected.crop_box or ())
    assert (vicrop["notices"], vicrop["answer_without_crop"]) == ([], expected.answer_without_crop)


def test_it_is_streamed_in_events(client: OpenAI, server: Running) -> None:
    events = list(client.responses.create(model=MODEL, input=INPUT, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        *("response.created", "response.in_progress"),
        *("response.output_item.added", "response.content_part.added"),
    ]
    assert kinds[-4:] == [
        *("response.output_text.done", "response.content_part.done"),
        *("response.output_item.done", "response.completed"),
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(pieces) == own(server).answer
    assert len({event.response.id for event in (events[0], events[-1])}) == 1
    with client.responses.stream(model=MODEL, input=INPUT) as stream:
        final = stream.get_final_response()
    assert final.output_text == own(server).answer


def test_a_response_that_was_cut_off_is_incomplete(client: OpenAI) -> None:
    response = client.responses.create(model=MODEL, input=INPUT, max_output_tokens=1)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    *_, last = client.responses.create(model=MODEL, input=INPUT, max_output_tokens=1, stream=True)
    assert last.type == "response.incomplete"


def test_it_parses_into_a_model(client: OpenAI) -> None:
    response = client.responses.parse(model=MODEL, input=INPUT, text_format=Reading)
    assert isinstance(response.output_parsed, Reading)
    assert json.loads(response.output_text) == response.output_parsed.model_dump()


def test_chat_parses_into_a_model(client: OpenAI) -> None:
    completion = client.chat.completions.parse(**{**chat(), "response_format": Reading})
    assert isinstance(completion.choices[0].message.parsed, Reading)


def test_instructions_and_earlier_items_are_read(client: OpenAI, server: Running) -> None:
    items: Any = [
        {"role": "user", "content": [PARTS[1], {"type": "input_text", "text": "What is this?"}]},
        {"type": "reasoning", "summary": []},
        {
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "a street", "annotations": []}],
        },
        {"type": "function_call_output", "call_id": "1", "output": "it rains"},
        {"role": "user", "content": demo_text()},
    ]
    raw = client.responses.with_raw_response.create(model=MODEL, input=items, instructions="You read signs.")
    history = ("User: What is this?", "Assistant: a street", "Tool: it rains")
    expected = server.scheduler.submit(
        demo_picture(),
        f"You read signs.\n{demo_text()}",
        history=history,
        localize=demo_text(),
        form=AnswerForm(fits=True),
    ).future.result(SECONDS)
    response = raw.parse()
    assert response.output_text == expected.answer
    assert response.model_extra["vicrop"]["confidence"] == expected.to_json()["confidence"]
    assert response.instructions == "You read signs."
    assert set(raw.headers[HEADER].split(", ")) == {"input[1].type", "messages"}


def test_text_alone_and_log_probabilities(client: OpenAI) -> None:
    include: Any = ["message.output_text.logprobs"]
    response = client.responses.create(
        model=MODEL, input="What is 1 + 1?", include=include, top_logprobs=2, temperature=0.3, store=True
    )
    probabilities = response.output[0].content[0].logprobs
    assert "".join(each.token for each in probabilities) == response.output_text
    assert len(probabilities[0].top_logprobs) == 2
    assert any("temperature" in notice for notice in response.model_extra["vicrop"]["notices"])


@pytest.mark.parametrize(
    ("more", "param", "words"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "send the whole input"),
        ({"background": True}, "background", "leave it out"),
        ({"max_output_tokens": 0}, "max_output_tokens", "from 1 up"),
        ({"input": []}, "input", "wanted text or a list"),
        ({"input": [5]}, "input[0]", "wanted an object"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
            "input[0].content[0].type",
            "kn",
        ),
        ({"input": [{"role": "usr", "content": "5"}], "instructions": "a"}, "input[0].role", "mean 'user'"),
        ({"input": [{"role": "assistant", "content": "5"}]}, "input", "no user message"),
    ],
)
def test_refusals_use_the_names_of_this_api(
    client: OpenAI, more: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": MODEL, "input": INPUT, **more})
    assert caught.value.param == param
    assert words in str(caught.value)


def test_a_strict_server_takes_it_as_strictly(strict_server: Running) -> None:
    with strict_server.client() as client:
        assert client.responses.create(model=MODEL, input=INPUT).status == "completed"
        for more in ({"temperature": 0.5}, {"reasoning": {"effort": "low"}}, {"unknown": 1}, {"input": "Hi"}):
            with pytest.raises(openai.BadRequestError):
                client.post("/responses", body={"model": MODEL, "input": INPUT, **more}, cast_to=object)


def test_plain_completions_are_sent_to_chat(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="/v1/chat/completions") as caught:
        client.completions.create(model=MODEL, prompt="Hi")
    assert caught.value.code == "unsupported_endpoint"
