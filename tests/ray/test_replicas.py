"""Replicas on a real local Ray: right answers, pictures that stay, no request lost with a replica."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from tests.ray.cluster import PLAN, Ask
from tests.ray.comparing import facts, own_facts
from tests.ray.requests import chat
from tests.ray.waiting import eventually
from vicrop_engine.errors import ImageError, RequestCancelledError
from vicrop_engine.examples import Example
from vicrop_engine.ray_serve.messages import ReplicaFacts
from vicrop_engine.ray_serve.remote_scheduler import RemoteScheduler

Questions = list[tuple[bytes, Example]]


@pytest.fixture
def two(scheduler: RemoteScheduler) -> list[ReplicaFacts]:
    """Both replicas, as they are before the test."""
    return eventually(lambda: [found for found in [scheduler.facts()] if len(found) == 2])[0]


def test_answers_are_those_of_the_engine_alone(
    two: list[ReplicaFacts], scheduler: RemoteScheduler, alone: Ask, questions: Questions
) -> None:
    handles = [scheduler.submit(picture, example.question) for picture, example in questions]
    for handle, (picture, example) in zip(handles, questions, strict=True):
        assert facts(handle.future.result()) == facts(alone(picture, example.question))
        assert handle.sent == 1
    assert {handle.replica for handle in handles} == {replica.replica for replica in two}


def test_a_picture_stays_with_the_replica_that_has_its_prefix(
    two: list[ReplicaFacts], scheduler: RemoteScheduler, questions: Questions
) -> None:
    pictures = [recoloured(index) for index in range(6)]
    places = defaultdict(set)
    for _ in range(3):
        handles = [scheduler.submit(picture, "What is written on the red sign?") for picture in pictures]
        for index, handle in enumerate(handles):
            handle.future.result()
            places[index].add(handle.replica)
    assert [len(places[index]) for index in range(6)] == [1] * 6
    before = {replica.replica: replica.counters for replica in two}
    runs = {replica.replica: replica.counters for replica in scheduler.facts()}
    prefills = sum(runs[name].prefix_prefills - before[name].prefix_prefills for name in before)
    hits = sum(runs[name].prefix_hits - before[name].prefix_hits for name in before)
    assert (prefills, hits) == (6, 12)


def recoloured(index: int) -> np.ndarray:
    """A picture that no other test asks about."""
    return (
        np.random.default_rng(index).integers(0, 256, (40, 60, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    )


def test_a_busy_replica_passes_a_picture_on(two: list[ReplicaFacts], scheduler: RemoteScheduler) -> None:
    """More questions about one picture at once than a replica takes: the next one has the rest."""
    picture = recoloured(100)
    count = 2 * PLAN.most_requests
    handles = [scheduler.submit(picture, f"What is written on sign {number}?") for number in range(count)]
    places = [(handle.future.result(), handle.replica)[1] for handle in handles]
    assert set(places) == {replica.replica for replica in two}


def test_texts_are_heard_as_they_grow(scheduler: RemoteScheduler, questions: Questions) -> None:
    (picture, example), first, final = questions[0], list[str](), list[str]()
    handle = scheduler.submit(picture, example.question, on_first_answer=first.append, on_answer=final.append)
    answer = handle.future.result()
    assert (first[-1], final[-1]) == (answer.answer_without_crop, answer.answer)
    assert handle.first_token is not None


def test_an_error_is_the_one_the_engine_raises(
    scheduler: RemoteScheduler, alone: Ask, questions: Questions
) -> None:
    with pytest.raises(ImageError) as local:
        alone(b"no picture", "What is it?")
    with pytest.raises(ImageError) as remote:
        scheduler.submit(b"no picture", "What is it?").future.result()
    assert str(remote.value) == str(local.value)


def test_a_cancelled_request_leaves_its_replica(scheduler: RemoteScheduler, questions: Questions) -> None:
    handles = [scheduler.submit(picture, example.question, high_res="on") for picture, example in questions]
    for handle in handles:
        handle.cancel()
    for handle in handles:
        with pytest.raises(RequestCancelledError):
            handle.future.result()
    eventually(lambda: not any(replica.running + replica.waiting for replica in scheduler.facts()))


def test_no_request_is_lost_with_its_replica(
    two: list[ReplicaFacts],
    scheduler: RemoteScheduler,
    address: str,
    alone: Ask,
    questions: Questions,
) -> None:
    """SIGKILL in the middle, half of the requests over HTTP: what the replica had is asked again."""
    half, tiles = len(questions) // 2, {"high_res": "on"}  # which takes longer
    home = scheduler.submit(questions[0][0], "Where does this picture live?")
    home.future.result()
    victim = next(replica for replica in two if replica.replica == home.replica)
    with ThreadPoolExecutor(half) as pool:
        replies = [pool.submit(ask_over_http, address, *question) for question in questions[half:]]
        handles = [scheduler.submit(image, example.question, **tiles) for image, example in questions[:half]]
        eventually(lambda: [one for one in scheduler.facts() if one.replica == home.replica and one.running])
        os.kill(victim.process, signal.SIGKILL)
        answers = [handle.future.result() for handle in handles]
        documents = [reply.result() for reply in replies]
    expected = [alone(image, example.question, **tiles) for image, example in questions[:half]]
    expected += [alone(image, example.question) for image, example in questions[half:]]
    assert [facts(answer) for answer in answers] == [facts(answer) for answer in expected[:half]]
    assert documents == [own_facts(answer.to_json()) for answer in expected[half:]]
    assert scheduler.resent == sum(handle.sent - 1 for handle in handles) > 0
    after = eventually(lambda: [found for found in [scheduler.facts()] if len(found) == 2])[0]
    assert victim.process not in {replica.process for replica in after}


def ask_over_http(address: str, picture: bytes, example: Example) -> dict[str, Any]:
    """The `vicrop` field of the answer, its heatmap too, as far as `own_facts`."""
    document = chat(example.question, picture, "webp", vicrop={"return_heatmap": True})
    reply = httpx.post(f"{address}/v1/chat/completions", json=document, timeout=60, trust_env=False)
    assert reply.status_code == 200, reply.text
    return own_facts(reply.json()["vicrop"])
