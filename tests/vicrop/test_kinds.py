"""Further cases of the kinds that real reports are of: values that only look right, copies, and callbacks."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vicrop_engine import AskParams, ViCropEngine
from vicrop_engine.errors import (
    BatchError,
    BoxError,
    ImageError,
    QueueFullError,
    RayMissingError,
    SettingError,
    ViCropError,
)

QUESTION = "What is written there?"


# box_as_x_y_width_height: boxes of other conventions


@pytest.mark.parametrize(
    "box", [(0.1, 0.2, 0.5, 0.6), [0.0, 0.0, 1.0, 1.0], np.array([0.0, 0.0, 1.0, 1.0], np.float32)]
)
def test_a_box_in_shares_of_the_sides_is_told_so(box: Any) -> None:
    with pytest.raises(BoxError, match="in shares of the picture's sides; wanted pixels"):
        AskParams(box=box)


@pytest.mark.parametrize(
    "box", [b"abcd", {0, 1, 20, 30}, (True, True, 10, 10), "0,0,9,9", ((0, 0), (9, 9)), (0, 0, 9), 7]
)
def test_what_only_holds_four_things_is_no_box(box: Any) -> None:
    with pytest.raises(BoxError, match="wanted four whole numbers"):
        AskParams(box=box)


# whole_numbers_of_numpy, answers_compare: numbers and records


@pytest.mark.parametrize("layers", [np.array([1, 2]), (1, np.int64(2)), range(1, 3), [np.uint8(2), 1]])
def test_layers_are_whole_numbers_however_they_come(layers: Any, engine: ViCropEngine) -> None:
    picture = Image.new("RGB", (300, 300), "white")
    got = engine.ask(picture, QUESTION, layers=layers, max_new_tokens=2)
    assert got == engine.ask(picture, QUESTION, layers=[1, 2], max_new_tokens=2)


@pytest.mark.parametrize("value", ["no", 0, 1, None, 0.0, float("nan"), [False]])
def test_what_passes_for_a_truth_value_is_refused(value: Any) -> None:
    with pytest.raises(SettingError, match=r"got first_answer .*, wanted True or False"):
        AskParams(first_answer=value)
    assert AskParams(first_answer=np.bool_(False)).first_answer is False  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["high_res", "when", "compat"])
@pytest.mark.parametrize("value", [np.array(["on", "off"]), ["auto"], True, 3.5])
def test_choices_are_text(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=rf"got {name} .*, wanted text"):
        AskParams.of({name: value})


@pytest.mark.parametrize("name", ["threads", "cache_bytes"])
@pytest.mark.parametrize("value", [-1, float("nan"), True, 1.5, "8"])
def test_counts_of_an_engine_are_whole(name: str, value: Any, engine_directory: Any) -> None:
    with pytest.raises(SettingError, match=rf"got {name} .*, wanted a whole number from"):
        ViCropEngine.load(engine_directory, **{name: value})


def test_settings_compare_and_have_a_hash_whatever_they_were_made_of() -> None:
    made = [
        AskParams(box=box, layers=[1, 2]) for box in ([0, 0, 9, 9], np.array([0, 0, 9, 9]), (0, 0, 9.0, 9))
    ]
    assert len(set(made)) == 1
    assert pickle.loads(pickle.dumps(made[1])) == made[0]


def test_an_answer_is_no_other_thing_and_survives_copies(engine: ViCropEngine, picture: Image.Image) -> None:
    answer = engine.ask(picture, QUESTION, max_new_tokens=2)
    for copied in (copy.copy(answer), copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):
        assert copied == answer
        assert copied in {answer}
    assert (answer == answer.answer) is False
    assert (answer == None) is False  # noqa: E711
    assert (answer != 5) is True


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy])
def test_an_open_engine_is_not_copied(way: Callable[[Any], Any], engine: ViCropEngine) -> None:
    with pytest.raises(TypeError, match="load it there"):
        way(engine)


@pytest.mark.parametrize(
    "error",
    [
        *(BatchError([ImageError("a"), 5]), QueueFullError(3, 1.5), RayMissingError("this", "ray")),
        *(BoxError("x"), ViCropError("y")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_reach_another_process(error: ViCropError) -> None:
    got = pickle.loads(pickle.dumps(error))
    assert (type(got), str(got), got.exit_code) == (type(error), str(error), error.exit_code)
    assert getattr(got, "retry_after", None) == getattr(error, "retry_after", None)


# ask_inside_the_callback: whatever a callback does


def outcome(
    engine: ViCropEngine, picture: Image.Image, callback: Callable[[str], object]
) -> BaseException | None:
    """What came of an ask with this callback; fails where it waits for itself."""
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            engine.ask(picture, QUESTION, max_new_tokens=2, on_first_answer=callback)  # type: ignore[arg-type]
            ended.append(None)
        except BaseException as error:
            ended.append(error)

    asking = threading.Thread(target=run, daemon=True)
    asking.start()
    asking.join(60)
    assert not asking.is_alive()
    return ended[0]


def test_a_batch_inside_a_callback_is_refused(engine: ViCropEngine, picture: Image.Image) -> None:
    error = outcome(engine, picture, lambda _: engine.ask_batch([(picture, QUESTION)]))
    assert isinstance(error, SettingError)
    assert "inside on_first_answer" in str(error)


@pytest.mark.parametrize("raised", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3)])
def test_what_a_callback_raises_comes_out_and_the_engine_goes_on(
    raised: BaseException, engine: ViCropEngine, picture: Image.Image
) -> None:
    def fail(_: str) -> None:
        raise raised

    before = engine.ask(picture, QUESTION, max_new_tokens=2)
    assert outcome(engine, picture, fail) is raised
    engine.check_integrity()
    assert engine.ask(picture, QUESTION, max_new_tokens=2) == before


def test_a_callback_may_read_what_the_engine_is(engine: ViCropEngine, picture: Image.Image) -> None:
    seen: list[object] = []
    look = lambda _: seen.extend((engine.manifest, engine.provider, engine.counters))  # noqa: E731
    assert outcome(engine, picture, look) is None
    assert engine.manifest in seen


# batch_with_a_malformed_item: sources and items of every shape


@pytest.mark.parametrize("error", [KeyError("mid"), RuntimeError("the disk"), StopIteration("early")])
def test_a_source_that_raises_on_its_way_keeps_the_answers(
    error: Exception, engine: ViCropEngine, picture: Image.Image
) -> None:
    class Source:
        def __iter__(self) -> Iterator[tuple[Image.Image, str]]:
            yield picture, QUESTION
            yield picture, "And there?"
            raise error

    first, second, failed = engine.ask_batch(Source(), return_errors=True, max_new_tokens=2)
    assert first.token_ids
    assert second.token_ids
    assert type(failed).__name__ == "ItemError"


def test_items_of_other_shapes_are_errors_of_their_own(engine: ViCropEngine, picture: Image.Image) -> None:
    bad: list[Any] = [
        {"image": picture, "question": QUESTION},
        (picture, QUESTION, 5),
        (None, QUESTION),
        (picture, ""),
        (picture, b"What?"),
        np.zeros((2, 5, 5)),
        iter([picture, QUESTION]),
    ]
    *errors, good = engine.ask_batch([*bad, [picture, QUESTION]], return_errors=True, max_new_tokens=2)
    assert all(isinstance(error, ViCropError) for error in errors)
    assert good.token_ids
    assert engine.ask_batch([]) == []


@pytest.mark.parametrize("name", ["https://a.example/b.png", "HTTP://a.example/b.png", "file:///a/b.png"])
def test_a_url_is_no_path(name: str, engine: ViCropEngine) -> None:
    with pytest.raises(ImageError, match="is a URL, which is not fetched; give the path"):
        engine.ask(name, QUESTION)
