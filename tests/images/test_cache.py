"""A picture is opened once for all questions about the same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vicrop_engine import ViCropEngine
from vicrop_engine.images import cache as pictures
from vicrop_engine.images.picture import Picture

QUESTION = "What is written on the red sign?"
FEW = {"max_new_tokens": 1, "method": "none"}


def encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many pictures have been decoded since it was asked last."""
    calls: list[Any] = []
    open_picture = pictures.open_picture

    def counting(source: Any, **keywords: Any) -> Picture:
        calls.append(source)
        return open_picture(source, **keywords)

    def count() -> int:
        number = len(calls)
        calls.clear()
        return number

    monkeypatch.setattr(pictures, "open_picture", counting)
    return count


def test_the_same_bytes_are_opened_once(
    engine: ViCropEngine, picture: Image.Image, opened: Callable[[], int]
) -> None:
    data = encoded(picture)
    first = engine.ask(data, QUESTION, **FEW)
    second = engine.ask(bytearray(data), "What is it?", **FEW)
    assert opened() == 1
    assert engine.ask(data, QUESTION, **FEW).token_ids == first.token_ids
    assert second.image_size == first.image_size
    assert opened() == 0
    engine.forget(prefixes=False)
    engine.ask(data, QUESTION, **FEW)
    assert opened() == 0
    engine.forget()
    engine.ask(data, QUESTION, **FEW)
    assert opened() == 1


def test_a_file_that_changed_is_opened_again(
    engine: ViCropEngine, picture: Image.Image, opened: Callable[[], int], tmp_path: Path
) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(picture))
    assert engine.ask(path, QUESTION, **FEW).image_size == picture.size
    path.write_bytes(encoded(picture.crop((0, 0, 300, 300))))
    assert engine.ask(path, QUESTION, **FEW).image_size == (300, 300)
    assert opened() == 2


def test_the_published_geometry_is_prepared_on_its_own(
    engine: ViCropEngine, picture: Image.Image, opened: Callable[[], int]
) -> None:
    data = encoded(picture)
    ours = engine.ask(data, QUESTION, **FEW)
    published = engine.ask(data, QUESTION, compat="mllms-know", **FEW)
    assert opened() == 2
    fresh = engine.ask(picture, QUESTION, compat="mllms-know", **FEW)
    assert published.confidence == pytest.approx(fresh.confidence, rel=1e-6)
    assert published.confidence != pytest.approx(ours.confidence, rel=1e-6)


def test_what_was_not_encoded_is_not_kept(
    engine: ViCropEngine, picture: Image.Image, opened: Callable[[], int]
) -> None:
    for given in (picture, np.asarray(picture)):
        engine.ask(given, QUESTION, **FEW)
        engine.ask(given, QUESTION, **FEW)
    assert opened() == 4


def test_nothing_is_kept_without_room(
    engine_directory: Path, picture: Image.Image, opened: Callable[[], int]
) -> None:
    bare, data = ViCropEngine.load(engine_directory, cache_bytes=0), encoded(picture)
    bare.ask(data, QUESTION, **FEW)
    bare.ask(data, QUESTION, **FEW)
    assert opened() == 2
