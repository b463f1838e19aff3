"""Formats beside the four that every client sends: kind, size and frames by their headers alone."""

from __future__ import annotations

import io
import random
import sys

import numpy as np
import pytest
from PIL import Image

from scripts import hostile_pictures as hostile
from vicrop_engine.errors import ImageError
from vicrop_engine.images import heif
from vicrop_engine.images.other_structure import OTHERS, any_kind_of, read_any_structure
from vicrop_engine.images.picture import ALL_FROM_STRANGERS, FROM_STRANGERS, open_picture
from vicrop_engine.images.structure import MEDIA_TYPES


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("size", [(48, 40), (1, 300), (513, 17)])
def test_kind_and_size_are_those_of_the_picture(kind: str, size: tuple[int, int]) -> None:
    size = (64, size[1]) if kind == "HEIF" and size[0] < 16 else size  # whose encoder wants more
    data = hostile.noise(random.Random(1), kind, size)
    found = read_any_structure(data)
    assert (found.kind, found.animated) == (kind, False)
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == size
        assert found.size[0] >= size[0]
        assert found.size[1] >= size[1]


@pytest.mark.parametrize("kind", OTHERS)
def test_a_strangers_picture_is_opened_where_these_are_allowed(kind: str) -> None:
    data = hostile.noise(random.Random(2), kind)
    picture = open_picture(data, ALL_FROM_STRANGERS)
    assert (picture.size, picture.notices) == ((48, 40), ())
    with pytest.raises(ImageError, match="is not PNG, JPEG, WEBP, GIF; give"):
        open_picture(data, FROM_STRANGERS)


@pytest.mark.parametrize("order", ["BMP", "TIFF"])
def test_pixels_are_those_that_were_written(order: str) -> None:
    plain = open_picture(hostile.noise(random.Random(5), "PNG"), ALL_FROM_STRANGERS).image
    other = open_picture(hostile.noise(random.Random(5), order), ALL_FROM_STRANGERS).image
    assert other.tobytes() == plain.tobytes()


def test_tiffs_of_either_byte_order_and_of_many_pages() -> None:
    pages = [Image.new("RGB", (9, 7), (40 * number, 0, 0)) for number in range(3)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    assert read_any_structure(buffer.getvalue()).animated
    assert "3 frames" in open_picture(buffer.getvalue(), ALL_FROM_STRANGERS).notices[0]
    motorola = b"MM\0*\0\0\0\x08\0\x02" + b"".join(
        tag.to_bytes(2) + b"\0\x03\0\0\0\x01" + size.to_bytes(2) + b"\0\0"
        for tag, size in ((256, 9), (257, 7))
    )
    assert read_any_structure(motorola + bytes(4)).size == (9, 7)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_what_moves_is_looked_at_and_that_is_said(kind: str) -> None:
    picture = open_picture(hostile.animation(kind), ALL_FROM_STRANGERS)
    assert "3 frames; only the first is looked at" in picture.notices[0]
    found = np.asarray(picture.image, np.int64)[3, 3]
    assert np.abs(found - [0, 9, 9]).max() <= 12


@pytest.mark.parametrize("flood", ["frames", "entries", "pages", "sizes", "large tiff"])
def test_floods_are_refused_before_anything_is_decoded(flood: str) -> None:
    with pytest.raises(ImageError, match=r"more than|limit is"):
        open_picture(hostile.FLOODS[flood](), ALL_FROM_STRANGERS)


@pytest.mark.parametrize("kind", OTHERS)
def test_whatever_is_cut_or_changed_is_a_picture_or_an_image_error(kind: str) -> None:
    chance, opened, said = random.Random(6), 0, ""
    for _ in range(60):
        data = hostile.truncated(chance, kind) if chance.random() < 0.5 else hostile.mutated(chance, kind)
        try:
            opened += open_picture(data, ALL_FROM_STRANGERS).size[0] > 0
        except ImageError as error:
            said += str(error)
    assert opened < 60
    assert said.isprintable()


def test_the_first_bytes_say_the_kind() -> None:
    for kind in (*MEDIA_TYPES, *OTHERS):
        assert any_kind_of(hostile.noise(random.Random(1), kind)) == kind
    assert any_kind_of(b"") is any_kind_of(b"\0\0\0\x18ftypmp42" + bytes(40)) is None


def test_heic_without_its_reader_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = hostile.noise(random.Random(1), "HEIF")
    Image.init()
    monkeypatch.delitem(Image.OPEN, "HEIF")
    monkeypatch.setattr("vicrop_engine.images.picture.reads_heif", lambda: False)
    with pytest.raises(ImageError, match=r"vicrop-engine\[heic\]"):
        open_picture(data)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(heif, "find_spec", lambda name: None)
    heif.reads_heif.cache_clear()
    assert not heif.reads_heif()
    heif.reads_heif.cache_clear()
