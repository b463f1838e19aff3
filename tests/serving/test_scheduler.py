"""What a scheduler promises beside answers: bounds, order, sharing, and what is free when somebody leaves."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.serving.conftest import Start, eventually
from tests.serving.mixed import large_picture, numbers
from vicrop_engine import AnswerForm, ViCropEngine
from vicrop_engine.engine_dir.files import FileEntry
from vicrop_engine.engine_dir.memory import requests_that_fit
from vicrop_engine.errors import (
    BatchError,
    ClosedError,
    DeadlineError,
    ImageError,
    NotEnoughMemoryError,
    QuestionError,
    QueueFullError,
    RequestCancelledError,
    RunError,
    SettingError,
)
from vicrop_engine.examples import signs
from vicrop_engine.serving.decode_batch import DecodeBatch
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.serving.settings import SchedulerSettings

PATH, EXAMPLE = signs()[0]
LONG = {"max_new_tokens": 200}


def test_the_same_question_at_the_same_time_is_answered_once(start: Start, held: threading.Event) -> None:
    scheduler = start()
    texts: list[str] = []
    first = scheduler.submit(PATH, EXAMPLE.question)
    assert eventually(lambda: first.began is not None)
    others = [scheduler.submit(PATH, EXAMPLE.question, on_answer=texts.append) for _ in range(5)]
    held.set()
    answers = [handle.future.result(timeout=20) for handle in (first, *others)]
    assert all(answer is answers[0] for answer in answers)
    assert [first.shared, *(handle.shared for handle in others)] == [False] + [True] * 5
    assert texts[-1] == answers[0].answer
    assert first.counters.prefix_prefills == 1


def test_who_asks_the_same_gets_an_answer_though_the_first_one_leaves(
    start: Start, held: threading.Event
) -> None:
    scheduler = start()
    first, second = (scheduler.submit(PATH, EXAMPLE.question) for _ in range(2))
    assert eventually(lambda: first.began is not None)
    first.cancel()
    with pytest.raises(RequestCancelledError):
        first.future.result(timeout=20)
    held.set()
    assert second.future.result(timeout=20).answer


def test_pictures_prefixes_and_general_rows_are_kept_for_the_next_question(start: Start) -> None:
    scheduler = start()
    cold = scheduler.submit(PATH, "What is written on the red sign?")
    cold.future.result(timeout=20)
    warm = scheduler.submit(PATH.read_bytes(), "What is written on the blue sign?")
    answer = warm.future.result(timeout=20)
    assert (cold.counters.prefix_prefills, cold.counters.general_prefills) == (1, 1)
    assert (warm.counters.prefix_hits, warm.counters.prefix_prefills) == (1, 0)
    assert (warm.counters.general_hits, warm.counters.general_prefills) == (1, 0)
    assert warm.counters.vision_images == 1  # of its crop
    assert answer.tokens.reused > answer.tokens.prefill


def test_pictures_of_several_requests_go_through_the_tower_together(start: Start) -> None:
    engine = ViCropEngine.load("llava-signs", threads=1)
    scheduler = start(engine, workers=1, vision_batch=4)
    asked = dict(signs())
    handles = [
        scheduler.submit(path, example.question, method="none") for path, example in list(asked.items())[:8]
    ]
    answers = [handle.future.result(timeout=20) for handle in handles]
    counted = engine.counters
    assert counted.vision_images == 8
    assert counted.vision_passes <= 4  # the first ones may have been alone
    for answer, (path, example) in zip(answers, asked.items(), strict=False):
        assert numbers(answer)[:5] == numbers(engine.ask(path, example.question, method="none"))[:5]


def test_who_leaves_frees_the_slots_at_once(start: Start, held: threading.Event) -> None:
    scheduler = start()
    handle = scheduler.submit(PATH, EXAMPLE.question, **LONG)
    assert eventually(lambda: scheduler.kv_usage > 0)
    handle.cancel()
    with pytest.raises(RequestCancelledError, match="cancelled"):
        handle.future.result(timeout=20)
    assert eventually(lambda: scheduler.kv_usage == 0 and scheduler.running == 0)


def test_a_request_ends_at_its_deadline(start: Start, held: threading.Event) -> None:
    scheduler = start()
    handle = scheduler.submit(PATH, EXAMPLE.question, deadline=0.3)
    with pytest.raises(DeadlineError, match=r"no answer within 0\.3 seconds; ask again"):
        handle.future.result(timeout=20)
    assert eventually(lambda: scheduler.kv_usage == 0 and scheduler.running == 0)
    held.set()
    assert scheduler.submit(PATH, EXAMPLE.question).future.result(timeout=20).answer


def test_no_more_wait_than_may(start: Start, held: threading.Event) -> None:
    scheduler = start(running=1, waiting=2)
    running = scheduler.submit(PATH, "What is written on the red sign?")
    assert eventually(lambda: running.began is not None)
    waiting = [scheduler.submit(PATH, f"What is written on the {word} sign?") for word in ("blue", "green")]
    with pytest.raises(QueueFullError, match="2 requests are waiting already") as refused:
        scheduler.submit(PATH, "What is written on the black sign?")
    assert refused.value.retry_after >= 1
    shared = scheduler.submit(PATH, "What is written on the blue sign?")  # takes no place of its own
    held.set()
    assert all(handle.future.result(timeout=20).answer for handle in (running, *waiting, shared))


def test_a_small_request_goes_before_a_large_one_that_came_earlier(start: Start) -> None:
    scheduler = start(workers=1, running=2)
    scheduler.submit(PATH, EXAMPLE.question).future.result(timeout=20)
    pictures = [large_picture(number) for number in range(3)]
    large = [scheduler.submit(picture, EXAMPLE.question, high_res="on") for picture in pictures]
    small = scheduler.submit(PATH, "What is written on the green sign?")
    small.future.result(timeout=20)
    assert sum(handle.future.done() for handle in large) <= 1
    assert all(handle.future.result(timeout=60).tiles for handle in large)


def test_what_is_wrong_with_a_request_ends_it_alone(start: Start) -> None:
    scheduler = start()
    wrong = [
        (scheduler.submit(b"no picture", EXAMPLE.question), ImageError),
        (scheduler.submit(PATH.read_bytes()[:4000], EXAMPLE.question), ImageError),
        (scheduler.submit(PATH, ""), QuestionError),
        (scheduler.submit(PATH, EXAMPLE.question, high_res="maybe"), SettingError),
    ]
    right = scheduler.submit(PATH, EXAMPLE.question)
    for handle, error in wrong:
        with pytest.raises(error):
            handle.future.result(timeout=20)
    assert right.future.result(timeout=20).answer


def test_closing_answers_whoever_waits_and_takes_no_more(start: Start) -> None:
    scheduler = start(running=1)
    handles = [scheduler.submit(PATH, f"What is written on sign {number}?") for number in range(5)]
    scheduler.close()
    assert all(handle.future.result(timeout=0).answer for handle in handles)
    with pytest.raises(ClosedError):
        scheduler.submit(PATH, EXAMPLE.question)


def test_closing_without_draining_ends_all(start: Start, held: threading.Event) -> None:
    scheduler = start(running=1)
    handles = [scheduler.submit(PATH, f"What is written on sign {number}?") for number in range(3)]
    scheduler.close(drain=False)
    for handle in handles:
        with pytest.raises(RequestCancelledError):
            handle.future.result(timeout=0)


def test_what_the_model_says_of_the_target_is_heard_by_nobody(start: Start) -> None:
    first: list[str] = []
    handle = start().submit(
        PATH, "What does it say?", method="target", on_first_answer=first.append, when="always"
    )
    answer = handle.future.result(timeout=20)
    assert answer.target_from in ("model", "question")
    assert answer.answer_without_crop is not None
    assert all(answer.answer_without_crop.startswith(text) for text in first)
    assert first[-1] == answer.answer_without_crop


def test_answers_are_heard_as_they_grow(start: Start) -> None:
    first: list[str] = []
    final: list[str] = []
    handle = start().submit(PATH, EXAMPLE.question, on_first_answer=first.append, on_answer=final.append)
    answer = handle.future.result(timeout=20)
    assert first[-1] == answer.answer_without_crop
    assert final[-1] == answer.answer
    assert handle.first_token is not None
    assert handle.arrived <= (handle.began or 0) <= handle.first_token


def test_a_listener_that_fails_ends_its_own_request_alone(start: Start) -> None:
    scheduler = start()

    def fail(_: str) -> None:
        raise OSError("the client went")

    failing = scheduler.submit(PATH, EXAMPLE.question, on_answer=fail)
    same = scheduler.submit(PATH, EXAMPLE.question)
    with pytest.raises(OSError, match="the client went"):
        failing.future.result(timeout=20)
    assert same.future.result(timeout=20).answer
    assert scheduler.submit(PATH, "What is written on the blue sign?").future.result(timeout=20).answer


def test_a_step_that_fails_ends_the_answers_in_it_alone(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = start()
    with monkeypatch.context() as patch:
        patch.setattr("vicrop_engine.model.forward.DecodeSteps.run", lambda *_: 1 / 0)
        with pytest.raises(RunError, match="could not be answered"):
            scheduler.submit(PATH, EXAMPLE.question).future.result(timeout=20)
    assert scheduler.submit(PATH, EXAMPLE.question).future.result(timeout=20).answer
    assert eventually(lambda: scheduler.kv_usage == 0 and scheduler.running == 0)


def test_too_little_memory_is_said_and_ends_one_request(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = start()

    def without_memory(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("vicrop_engine.families.llava.picture.Llava.see", without_memory)
        with pytest.raises(NotEnoughMemoryError, match="not enough memory for this request; give"):
            scheduler.submit(PATH, EXAMPLE.question).future.result(timeout=20)
    assert scheduler.submit(PATH, EXAMPLE.question).future.result(timeout=20).answer


def test_an_answer_without_a_slot_large_enough_is_decoded_alone(
    start: Start, engine: ViCropEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = start()
    expected = scheduler.submit(PATH, EXAMPLE.question).future.result(timeout=20)
    monkeypatch.setattr(DecodeBatch, "fits", lambda *_: False)
    got = scheduler.submit(PATH, EXAMPLE.question).future.result(timeout=20)
    assert numbers(got)[:-2] == numbers(expected)[:-2]


@pytest.mark.parametrize("ends", ["cancelled", "late"])
def test_a_long_answer_without_a_slot_ends_when_it_is_not_wanted(start: Start, ends: str) -> None:
    """It would go on for hundreds of tokens otherwise, in a worker that others wait for."""
    scheduler, heard, goes_on = start(), threading.Event(), threading.Event()

    def hears(_: str) -> None:
        heard.set()
        goes_on.wait(20)

    form = AnswerForm(ignore_eos=True, fits=True)
    settings: dict[str, Any] = {"method": "none", "max_new_tokens": 10**6, "form": form}
    handle = scheduler.submit(PATH, EXAMPLE.question, on_answer=hears, **settings)
    assert heard.wait(20)
    if ends == "cancelled":
        handle.cancel()
    else:
        handle.deadline = handle.clock() - 1.0
    goes_on.set()
    with pytest.raises(RequestCancelledError if ends == "cancelled" else DeadlineError):
        handle.future.result(20)
    assert eventually(lambda: scheduler.running == 0)
    assert handle.counters.decode_steps < 5
    assert scheduler.submit(PATH, EXAMPLE.question).future.result(20).answer


def test_a_batch_is_answered_in_order_with_what_went_wrong_in_its_place(
    engine: ViCropEngine, tmp_path: Path
) -> None:
    items = [(path, example.question) for path, example in signs()[:40]]
    items[7] = tmp_path / "missing.png", "What is it?"
    results = engine.ask_batch(items, return_errors=True, max_new_tokens=4)
    assert isinstance(results[7], ImageError)
    for index in (0, 6, 8, 39):
        alone = engine.ask(*items[index], max_new_tokens=4)
        assert numbers(results[index])[:5] == numbers(alone)[:5]
    with pytest.raises(BatchError, match="1 of 40 items failed"):
        engine.ask_batch(items, max_new_tokens=4)


def test_engines_whose_graphs_take_no_batches_are_served_one_at_a_time(
    start: Start, engine: ViCropEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(engine.model.decoder), "takes_batches", False)
    scheduler: Scheduler = start()
    handles = [scheduler.submit(path, example.question) for path, example in signs()[:6]]
    for handle, (path, example) in zip(handles, signs()[:6], strict=True):
        assert numbers(handle.future.result(timeout=20)) == numbers(engine.ask(path, example.question))


def test_no_more_run_than_fit_the_memory(engine: ViCropEngine) -> None:
    """At the sizes of LLaVA-1.5-7B, with weights of four bits."""
    decoder = replace(
        engine.manifest.decoder, hidden_size=4096, head_dim=128, num_heads=32, num_kv_heads=32, num_layers=32
    )
    files = {"decoder_lower.onnx.data": FileEntry(4_400_000_000, "")}
    vision = replace(engine.manifest.vision, image_tokens=576)
    large = replace(engine.manifest, decoder=decoder, vision=vision, files=files)
    one = 3264 * 32 * 2 * 4096 * 4  # rows of a prefix with its crop and of both answers
    assert requests_that_fit(large, 16 << 30) == 1
    assert requests_that_fit(large, 2 * int(1.1 * 4_400_000_000) + 6 * one) == 3
    assert SchedulerSettings().fitted(engine.manifest).num_running == 8
    assert SchedulerSettings(running=3).fitted(large).num_running == 3
