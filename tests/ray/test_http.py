"""The HTTP interface on Ray is that of `vicrop-engine serve`: one application, other schedulers behind it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import httpx
import pytest

from tests.ray.cluster import Ask
from tests.ray.processes import descendants, open_to_others
from tests.ray.requests import chat
from tests.ray.waiting import eventually
from vicrop_engine.examples import Example


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        yield client


def test_it_gets_ready_and_says_what_it_has(http: httpx.Client) -> None:
    eventually(lambda: http.get("/health").status_code == 200)
    assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["llava-signs"]


def test_only_what_asks_for_rays_token_can_be_reached_from_outside(address: str) -> None:
    """Serve's replicas listen on every address for calls of Ray's own; nothing else does."""
    assert open_to_others(descendants(os.getpid())) == {"ray::ServeRepli"}
    assert os.environ.get("RAY_AUTH_MODE", "token") == "token"


def test_a_streamed_answer_comes_in_chunks(
    http: httpx.Client, alone: Ask, questions: list[tuple[bytes, Example]]
) -> None:
    picture, example = questions[0]
    document = chat(example.question, picture, "webp", stream=True)
    with http.stream("POST", "/v1/chat/completions", json=document) as reply:
        lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    deltas = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert "".join(deltas) == alone(picture, example.question).answer


def test_bad_input_is_refused_with_the_engines_sentence(http: httpx.Client) -> None:
    reply = http.post("/v1/chat/completions", json=chat("What is it?", b"no picture", "png"))
    assert reply.status_code == 400
    assert "picture" in reply.json()["error"]["message"]


def test_what_replicas_reuse_is_counted_where_it_is_scraped(
    http: httpx.Client, questions: list[tuple[bytes, Example]]
) -> None:
    picture, _ = questions[0]
    for word in ("red", "blue"):
        reply = http.post("/v1/chat/completions", json=chat(f"Is the sign {word}?", picture, "webp"))
        assert reply.status_code == 200
    lines = dict(line.rsplit(" ", 1) for line in http.get("/metrics").text.splitlines() if line[0] != "#")
    assert float(lines["vicrop:prompt_tokens_cached_total"]) > 0
    assert float(lines["vicrop:num_requests_waiting"]) == 0
    assert 0 <= float(lines["vicrop:kv_cache_usage_perc"]) <= 1
