"""Room for the pictures of requests under way: told from headers, waited for, given back once decoded."""

from __future__ import annotations

import gc
import io
import threading
import weakref

import pytest
from PIL import Image

from tests.serving.conftest import Start, eventually
from vicrop_engine import ViCropEngine
from vicrop_engine.errors import NotEnoughMemoryError, PictureTooLargeError
from vicrop_engine.examples import signs
from vicrop_engine.images.cache import source_of
from vicrop_engine.serving.settings import ALONE, SchedulerSettings

PATH, EXAMPLE = signs()[0]


def picture(number: int, size: tuple[int, int] = (1200, 800), mode: str = "RGB") -> bytes:
    """A PNG of the first sign, with a corner that is this number's own."""
    with Image.open(PATH) as source:
        image = source.convert("RGB").resize(size)
    image.paste((number, 0, 0), (0, 0, 8, 8))
    file = io.BytesIO()
    image.convert(mode).save(file, "PNG", compress_level=1)
    return file.getvalue()


def test_pictures_begin_as_there_is_room_for_them(start: Start, held: threading.Event) -> None:
    """Room for two decoded: the third waits until one is done, and a smaller one behind it waits too."""
    pictures = [picture(number) for number in range(3)]
    small = picture(9, (300, 200))
    taken = [source_of(picture).decoding_bytes for picture in pictures]
    scheduler = start(under_way_bytes=sum(taken[:2]) + taken[2] // 2, workers=4)
    first, second = (scheduler.submit(each, EXAMPLE.question, method="none") for each in pictures[:2])
    assert eventually(lambda: scheduler.running == 2)
    third = scheduler.submit(pictures[2], EXAMPLE.question, method="none")
    last = scheduler.submit(small, EXAMPLE.question, method="none")
    assert (scheduler.running, scheduler.waiting) == (2, 2)
    assert (third.began, last.began) == (None, None)
    held.set()
    answers = [handle.future.result(timeout=20) for handle in (first, second, third, last)]
    assert [answer.image_size for answer in answers[:2]] == [(1200, 800)] * 2
    assert third.began is not None
    assert last.began is not None
    assert third.began <= last.began


def test_a_decoded_picture_makes_room_for_the_next(start: Start, held: threading.Event) -> None:
    """What converting it took is free while its request goes on."""
    layered = [picture(number, mode="RGBA") for number in range(2)]
    taken = source_of(layered[0]).decoding_bytes
    scheduler = start(under_way_bytes=int(1.7 * taken))
    handles = [scheduler.submit(each, EXAMPLE.question, method="none") for each in layered]
    assert eventually(lambda: scheduler.running == 2)
    assert not any(handle.future.done() for handle in handles)
    held.set()
    assert all(handle.future.result(timeout=20).answer for handle in handles)


def test_a_picture_that_never_fits_is_refused_and_one_alone_has_more_room(start: Start) -> None:
    large = picture(0)
    taken = source_of(large).decoding_bytes
    alone = start(under_way_bytes=int(taken / ALONE) + 1)
    assert alone.submit(large, EXAMPLE.question).future.result(timeout=20).answer
    with pytest.raises(
        PictureTooLargeError, match=r"MB to decode and there is room for \d+ MB; give a smaller one"
    ):
        start(under_way_bytes=taken // 2).submit(large, EXAMPLE.question).future.result(timeout=20)


@pytest.mark.parametrize("room", [1, 1 << 30], ids=["refused", "failed"])
def test_a_request_that_ended_badly_holds_no_picture(
    start: Start, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Not even until Python looks for circles: the next request wants its memory now."""
    held: list[weakref.ref[object]] = []

    def failing(image: Image.Image, *_: object) -> None:
        held.append(weakref.ref(image))
        raise MemoryError

    monkeypatch.setattr("vicrop_engine.families.llava.picture.preprocess", failing)
    scheduler = start(under_way_bytes=room)
    gc.disable()
    try:
        handle = scheduler.submit(picture(0), EXAMPLE.question)
        assert isinstance(handle.future.exception(timeout=20), PictureTooLargeError | NotEnoughMemoryError)
        assert eventually(lambda: scheduler.running == 0)
        if room == 1:
            held.append(weakref.ref(handle))
            del handle
        assert eventually(lambda: [ref() for ref in held] == [None])
    finally:
        gc.enable()


def test_bounds_left_open_fit_the_memory(engine: ViCropEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fitted(total: int) -> SchedulerSettings:
        monkeypatch.setattr("vicrop_engine.engine_dir.memory.usable_bytes", lambda: total)
        return SchedulerSettings().fitted(engine.manifest)

    assert fitted(64 << 30).kept_bytes == 256 << 20
    little, less = fitted(512 << 20), fitted(256 << 20)
    assert 12_000_000 * 4 * 3 < little.room < 256 << 20
    assert less.kept_bytes < little.kept_bytes < 32 << 20
    assert 12_000_000 * 4 < less.room_alone < 128 << 20
    assert 1 < less.num_running < little.num_running == 8
    assert (fitted(1 << 20).room, fitted(1 << 20).kept_bytes) == (1, 1)
    with pytest.raises(ValueError, match="take `fitted` first"):
        _ = SchedulerSettings().room
