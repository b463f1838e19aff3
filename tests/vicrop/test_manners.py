"""What Python's users expect: answers compare, whole numbers are whole, nothing waits for itself."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vicrop_engine import ViCropEngine
from vicrop_engine.errors import BatchError, BoxError, SettingError

QUESTION = "What is written there?"


def test_answers_compare_and_have_a_hash(engine: ViCropEngine, picture: Image.Image) -> None:
    one, other = (engine.ask(picture, QUESTION, max_new_tokens=3) for _ in range(2))
    assert (one == other) is True
    assert len({one, other}) == 1
    assert (one == engine.ask(picture, QUESTION, max_new_tokens=2)) is False


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_whole_numbers_of_numpy_are_whole(kind: type, engine: ViCropEngine, picture: Image.Image) -> None:
    got = engine.ask(picture, QUESTION, max_new_tokens=kind(3), layers=kind(2), crop_tokens=kind(9))
    assert got == engine.ask(picture, QUESTION, max_new_tokens=3, layers=2, crop_tokens=9)
    box = np.array([10, 20, 200, 210], kind)
    assert engine.ask(picture, QUESTION, max_new_tokens=2, box=box).crop_box == (10, 20, 200, 210)


@pytest.mark.parametrize("side", [float("inf"), float("nan"), 1e400])
def test_sides_that_are_no_numbers_are_no_box(
    side: float, engine: ViCropEngine, picture: Image.Image
) -> None:
    with pytest.raises(BoxError, match="four whole numbers"):
        engine.ask(picture, QUESTION, box=(0, 0, side, 10))  # type: ignore[arg-type]


def test_asking_inside_a_callback_is_refused(engine: ViCropEngine, picture: Image.Image) -> None:
    refused: list[str] = []

    def again(_: str) -> None:
        asks = (lambda: engine.ask(picture, "Again?"), lambda: engine.locate(picture, "?"))
        for use in (*asks, engine.forget):
            with pytest.raises(SettingError, match="inside on_first_answer") as raised:
                use()
            refused.append(str(raised.value))

    asking = threading.Thread(
        target=lambda: engine.ask(picture, QUESTION, max_new_tokens=2, on_first_answer=again), daemon=True
    )
    asking.start()
    asking.join(60)
    assert not asking.is_alive()
    assert len(refused) >= 3
    assert engine.ask(picture, "Again?", max_new_tokens=2).token_ids


def test_an_open_engine_says_what_to_hand_over_instead(engine: ViCropEngine) -> None:
    with pytest.raises(TypeError, match="load it there"):
        pickle.dumps(engine)


def test_a_batch_keeps_what_was_good(engine: ViCropEngine, picture: Image.Image, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    good = (picture, QUESTION)
    bad = [(picture,), "a question", (picture, 7), (str(tmp_path / "holiday.jpg"), QUESTION), None]
    results = engine.ask_batch([good, *bad, good], return_errors=True, max_new_tokens=2)  # type: ignore[list-item]
    assert results[0] == results[-1]
    assert [type(each).__name__ for each in results[1:-1]] == [
        *("ItemError", "ItemError", "ItemError", "ImageError", "ItemError"),
    ]
    assert "holiday.jpg" in str(results[4])


def test_a_source_that_fails_loses_nothing(engine: ViCropEngine, picture: Image.Image) -> None:
    def source() -> Iterator[tuple[Image.Image, str]]:
        yield picture, QUESTION
        raise OSError("the list is gone")

    with pytest.raises(BatchError, match="the list is gone") as raised:
        engine.ask_batch(source(), max_new_tokens=2)
    answer, failed = raised.value.results
    assert answer == engine.ask(picture, QUESTION, max_new_tokens=2)
    assert "OSError" in str(failed)
