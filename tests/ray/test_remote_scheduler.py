"""What a request goes through when replicas are lost, full or silent, with replicas played by the test."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import BackPressureError

from tests.ray.cluster import PLAN, Ask
from tests.ray.waiting import eventually
from vicrop_engine.counters import Counters
from vicrop_engine.errors import (
    ClosedError,
    DeadlineError,
    ImageError,
    QueueFullError,
    ReplicaLostError,
    RequestCancelledError,
    WorkFailedError,
)
from vicrop_engine.examples import Example
from vicrop_engine.ray_serve.messages import Answered, Asked, Course, Refused, TextSoFar
from vicrop_engine.ray_serve.remote_scheduler import RemoteScheduler
from vicrop_engine.vicrop.answer import Answer

Play = Callable[[Asked], AsyncIterator[Any]]


class Events:
    """What comes back from a replica, and whether it was given up."""

    def __init__(self, events: AsyncIterator[Any]) -> None:
        self._events, self.given_up = events, False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._events

    def cancel(self) -> None:
        """As Ray's."""
        self.given_up = True


class Handle:
    """Stands for Ray's deployment: requests are answered by `plays` in turn, and then by the last one."""

    def __init__(self, *plays: Play) -> None:
        self.plays, self.sent, self.keys = list(plays), list[Events](), list[str]()

    @property
    def ask(self) -> Handle:
        """The method that is called."""
        return self

    def options(self, *, stream: bool, session_id: str) -> Handle:
        """Keeps the key."""
        assert stream
        self.keys.append(session_id)
        return self

    def remote(self, asked: Asked) -> Events:
        """Sends."""
        play = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
        self.sent.append(Events(play(asked)))
        return self.sent[-1]


@contextmanager
def remote(*plays: Play) -> Iterator[tuple[RemoteScheduler, Handle]]:
    deployment = Handle(*plays)
    with RemoteScheduler(deployment, PLAN) as scheduler:
        yield scheduler, deployment


@pytest.fixture(scope="module")
def answer(alone: Ask, questions: list[tuple[bytes, Example]]) -> Answer:
    picture, example = questions[0]
    return alone(picture, example.question)


def answers(answer: Answer, *texts: str, lost: bool = False) -> Play:
    """A replica that says the texts, and then answers, or is lost."""

    async def play(asked: Asked) -> AsyncIterator[Any]:
        for text in texts:
            yield TextSoFar(text, first=False)
        if lost:
            raise ActorDiedError
        yield Answered(answer, Course("one", Counters(prefix_hits=1), False, 0.25, 0.5))

    return play


def refuses(error: Exception) -> Play:
    """A replica, or a router, that ends every request with this error."""

    async def play(asked: Asked) -> AsyncIterator[Any]:
        if isinstance(error, ImageError | QueueFullError | ClosedError):
            yield pickle.loads(pickle.dumps(Refused.with_error(error)))
            return
        raise error
        yield

    return play


async def silent(asked: Asked) -> AsyncIterator[Any]:
    """A replica that never says anything."""
    await asyncio.Event().wait()
    yield


def test_a_lost_request_is_sent_again_and_its_texts_are_heard_once(answer: Answer) -> None:
    heard: list[str] = []
    with remote(answers(answer, "K", "K7", lost=True), answers(answer, "K", "K7", "K7 a")) as (
        scheduler,
        deployment,
    ):
        handle = scheduler.submit(b"picture", "What?", on_answer=heard.append)
        assert handle.future.result(10) is answer
        assert (handle.sent, scheduler.resent, handle.replica) == (2, 1, "one")
    assert heard == ["K", "K7", "K7 a"]
    assert len(set(deployment.keys)) == 1
    assert handle.counters.prefix_hits == 1
    assert handle.began is not None
    assert handle.began >= handle.arrived + 0.25


def test_text_alone_goes_to_one_replica_by_its_words(answer: Answer) -> None:
    sent: list[Asked] = []

    async def play(asked: Asked) -> AsyncIterator[Any]:
        sent.append(pickle.loads(pickle.dumps(asked)))
        yield Answered(answer, Course("one", Counters(), False, 0.0, 0.0))

    with remote(play) as (scheduler, deployment):
        for question in ("What?", "What?", "Who?"):
            assert scheduler.submit(None, question).future.result(10) is answer
    assert [asked.image for asked in sent] == [None] * 3
    assert deployment.keys[0] == deployment.keys[1] != deployment.keys[2]


def test_a_request_that_takes_every_replica_along_is_given_up(answer: Answer) -> None:
    with remote(answers(answer, lost=True)) as (scheduler, deployment):
        handle = scheduler.submit(b"picture", "What?")
    with pytest.raises(ReplicaLostError, match="3 times"):
        handle.future.result(10)
    assert len(deployment.sent) == PLAN.scale.attempts == 3


def test_a_replica_that_is_made_to_stop_is_as_good_as_lost(answer: Answer) -> None:
    with remote(refuses(ClosedError("closing")), answers(answer)) as (scheduler, _):
        assert scheduler.submit(b"picture", "What?").future.result(10) is answer


@pytest.mark.parametrize("error", [ImageError("no picture"), QueueFullError(7, 3.0)])
def test_an_error_of_the_request_is_not_asked_again(error: ImageError | QueueFullError) -> None:
    with remote(refuses(error)) as (scheduler, deployment), pytest.raises(type(error)) as raised:
        scheduler.submit(b"picture", "What?").future.result(10)
    assert (str(raised.value), vars(raised.value)) == (str(error), vars(error))
    assert len(deployment.sent) == 1


def test_too_many_waiting_for_a_replica_is_a_full_queue() -> None:
    with (
        remote(refuses(BackPressureError(num_queued_requests=256, max_queued_requests=256))) as (
            scheduler,
            _,
        ),
        pytest.raises(QueueFullError, match="256 requests") as raised,
    ):
        scheduler.submit(b"picture", "What?").future.result(10)
    assert raised.value.retry_after > 0


def test_an_error_of_ours_in_a_replica_is_told_without_its_text() -> None:
    with remote(refuses(KeyError("/a/path"))) as (scheduler, _):
        handle = scheduler.submit(b"picture", "What?")
    with pytest.raises(WorkFailedError, match="unexpected KeyError") as raised:
        handle.future.result(10)
    assert "/a/path" not in str(raised.value)


def test_a_cancelled_request_is_given_up_in_its_replica() -> None:
    with remote(silent) as (scheduler, deployment):
        handle = scheduler.submit(b"picture", "What?")
        eventually(lambda: deployment.sent)
        handle.cancel()
        with pytest.raises(RequestCancelledError):
            handle.future.result(10)
    assert deployment.sent[0].given_up


def test_a_silent_replica_does_not_outlast_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vicrop_engine.ray_serve.remote_scheduler.PATIENCE", 0.1)
    with remote(silent) as (scheduler, deployment), pytest.raises(DeadlineError):
        scheduler.submit(b"picture", "What?", deadline=0.1).future.result(10)
    assert deployment.sent[0].given_up


def test_what_is_wrong_with_a_picture_here_ends_the_future() -> None:
    with remote(silent) as (scheduler, deployment), pytest.raises(ImageError, match="does not exist"):
        scheduler.submit("nowhere.png", "What?").future.result(10)
    assert not deployment.sent


def test_a_closed_scheduler_takes_nothing_and_has_finished_what_it_took(answer: Answer) -> None:
    with remote(answers(answer)) as (scheduler, _):
        handle = scheduler.submit(b"picture", "What?")
    assert handle.future.done()
    with pytest.raises(ClosedError):
        scheduler.submit(b"picture", "What?")


def test_closing_without_draining_ends_what_is_left() -> None:
    with remote(silent) as (scheduler, _):
        handle = scheduler.submit(b"picture", "What?")
        scheduler.close(drain=False)
        with pytest.raises(RequestCancelledError):
            handle.future.result(10)


def test_pictures_are_told_apart_by_what_they_show(answer: Answer) -> None:
    with remote(answers(answer)) as (scheduler, deployment):
        for picture in (b"one", b"two", b"one"):
            scheduler.submit(picture, "What?").future.result(10)
    first, second, third = deployment.keys
    assert first == third != second


def test_attempts_are_the_plans(answer: Answer) -> None:
    deployment = Handle(answers(answer, lost=True))
    plan = replace(PLAN, scale=replace(PLAN.scale, attempts=1))
    with RemoteScheduler(deployment, plan) as scheduler, pytest.raises(ReplicaLostError):
        scheduler.submit(b"picture", "What?").future.result(10)
    assert len(deployment.sent) == 1
