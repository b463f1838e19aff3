"""Pictures in requests: what a data: URL may be, and what is said of the others."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from scripts import hostile_pictures as hostile
from vicrop_engine.errors import ImageError
from vicrop_engine.images.other_structure import OTHERS
from vicrop_engine.images.structure import MEDIA_TYPES
from vicrop_engine.server.guard.untrusted_image import load_image
from vicrop_engine.server.settings import ServerSettings

PNG = hostile.noise(random.Random(1), "PNG")


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def load(url: str, *, strict: bool = True, **settings: Any) -> bytes:
    return asyncio.run(load_image(url, ServerSettings(strict=strict, **settings)))


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_the_four_formats_come_back_byte_by_byte(kind: str) -> None:
    data = hostile.noise(random.Random(2), kind)
    assert load(data_url(data, MEDIA_TYPES[kind])) == data


@pytest.mark.parametrize("head", ["DATA:image/png;base64,", "data:IMAGE/PNG;name=a.png;BASE64,"])
def test_heads_are_read_without_regard_to_case(head: str) -> None:
    assert load(head + base64.b64encode(PNG).decode()) == PNG


def test_what_many_write_for_jpeg_is_known() -> None:
    data = hostile.noise(random.Random(2), "JPEG")
    assert load(data_url(data, "image/jpg")) == data


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("data:image/png,%89PNG", "not in base64"),
        ("data:image/png;base64", "no data: URL"),
        ("data:image/png;base64,", "0 bytes"),
        ("data:;base64,AAAA", "is not PNG, JPEG, WEBP, GIF"),
        ("data:image/svg+xml;base64,AAAA", "is not PNG, JPEG, WEBP, GIF"),
        ("data:text/html;base64,AAAA", "is not PNG, JPEG, WEBP, GIF"),
        ("data:image/png;base64;charset=a,AAAA", "not in base64"),
        ("data:image/png;base64,not base64", "not base64"),
        ("data:image/png;base64,AAA", "not base64"),
        ("data:image/png;base64,AAAA=AAA", "not base64"),
        ("data:image/png;base64,AAA_", "not base64"),
        ("data:image/png;base64,AA\nA", "not base64"),
        ("data:image/png;base64,ÄÄÄÄ", "not base64"),
        ("data:image/png;base64,AAAA", "is not PNG, JPEG, WEBP, GIF"),
        ("data:" + "a" * 5000 + ",AAAA", "no data: URL"),
        ("", "no data: URL"),
        ("file:///etc/passwd", "no data: URL"),
        ("/etc/passwd", "no data: URL"),
        ("ftp://host/a.png", "no data: URL"),
        ("http://example.com/a.png", "does not fetch"),
        ("HTTPS://example.com/a.png", "does not fetch"),
    ],
)
def test_other_urls_are_refused_in_a_sentence(url: str, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        load(url)
    assert "passwd" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_the_bytes_decide_whatever_type_a_client_writes(kind: str) -> None:
    data = hostile.noise(random.Random(2), kind)
    for written in (MEDIA_TYPES[kind], "image/png", "image/jpg", "application/octet-stream", ""):
        assert load(data_url(data).replace("image/png", written, 1)) == data


@pytest.mark.parametrize("between", ["\n", "\r\n", " ", "\t"])
def test_base64_in_lines_is_read(between: str) -> None:
    """As `base64 FILE` and Python's encodebytes write it."""
    head, _, text = data_url(PNG).partition(",")
    lines = [text[start : start + 76] for start in range(0, len(text), 76)]
    assert load(f"{head},{between.join(lines)}{between}") == PNG


def test_bytes_are_counted_before_they_are_decoded() -> None:
    assert load(data_url(PNG), max_image_bytes=len(PNG)) == PNG
    with pytest.raises(ImageError, match=f"has {len(PNG)} bytes and the limit is {len(PNG) - 1}"):
        load(data_url(PNG), max_image_bytes=len(PNG) - 1)
    with pytest.raises(ImageError, match=r"about 3000 bytes and the limit is 1000"):
        load("data:image/png;base64," + "!" * 4000, max_image_bytes=1000)


def test_pixels_are_those_of_the_settings() -> None:
    assert load(data_url(PNG), max_pixels=48 * 40) == PNG
    with pytest.raises(ImageError, match="48 x 40 pixels"):
        load(data_url(PNG), max_pixels=48 * 40 - 1)


@pytest.mark.parametrize(
    "sloppy",
    [
        lambda text: f"data:image/png;base64,{text.replace('+', '-').replace('/', '_')}",
        lambda text: f"data:image/png;base64,{text.rstrip('=')}",
        lambda text: f"data:image/png;base64,{quote(text)}",
        lambda text: f"data:image/png; base64, {text}",
        lambda text: f"  data:image;base64,{text}",
        lambda text: f"data:image/png;base64;charset=a;base64,{text}",
        lambda text: text,
        lambda text: text.rstrip("=") + "\n",
    ],
    ids=[
        "URL alphabet",
        "no padding",
        "escapes",
        "spaces",
        "no subtype",
        "twice",
        "bare",
        "bare, no padding",
    ],
)
def test_sloppy_urls_are_read_unless_strict(sloppy: Callable[[str], str]) -> None:
    pictures = (hostile.noise(random.Random(1), "PNG", (48, height)) for height in range(40, 60))
    data = next(png for png in pictures if len(png) % 3)
    url = sloppy(base64.b64encode(data).decode())
    assert load(url, strict=False) == data


@pytest.mark.parametrize(
    "url",
    [
        *("", "x" * 5000, "file:///etc/passwd", "//host/a.png", "data:,", "data:image/png,%89PNG"),
        *("data:image/png;base64,AAAA=AAA", "data:image/png;base64,ÄÄÄÄ", "data:image/png;base64,not base64"),
    ],
)
def test_what_is_no_picture_is_none_for_a_lenient_server_either(url: str) -> None:
    with pytest.raises(ImageError) as caught:
        load(url, strict=False)
    assert "passwd" not in str(caught.value)


@pytest.mark.parametrize("kind", OTHERS)
def test_other_formats_are_read_unless_strict(kind: str) -> None:
    data = hostile.noise(random.Random(3), kind)
    assert load(data_url(data), strict=False) == data
    with pytest.raises(ImageError, match="is not PNG, JPEG, WEBP, GIF"):
        load(data_url(data))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_so_are_animations(kind: str) -> None:
    data = hostile.animation(kind)
    assert load(data_url(data), strict=False) == data
    with pytest.raises(ImageError, match="is an animation"):
        load(data_url(data))
