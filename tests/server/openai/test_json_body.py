"""Bodies as JSON: what is none, what is too much, and what no client could have meant."""

from __future__ import annotations

import pytest

from vicrop_engine.errors import BodyError
from vicrop_engine.server.json_documents import MAX_DEPTH, MAX_MARKS, parse_json


def test_a_document() -> None:
    body = '{"a": [1, -2.5, 1e3, true, null, "ä😀\\ud83d\\ude00\\n"], "": {}}'.encode()
    assert parse_json(body) == {"a": [1, -2.5, 1000.0, True, None, "ä😀😀\n"], "": {}}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1} x', "not JSON"),
        (b'"a\nb"', "not JSON"),
        (b"[NaN]", "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"-Infinity", "-Infinity"),
        (b"1e999", "beyond float64"),
        (b"-1e999", "beyond float64"),
        (b"1" * 31, "31 digits"),
        (b"[" + b"9" * 1_000_000 + b"]", "1000000 digits"),
        (b'{"a": 1, "b": 2, "a": 3}', "'a' twice"),
        (b'[{"b": {"c": 0, "c": 0}}]', "'c' twice"),
        (b"\xff", "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'["\\ud800"]', "half a surrogate"),
        (b'{"a": {"b": "\\udfff x"}}', "half a surrogate"),
        (b'{"\\ud800": 1}', "half a surrogate"),
        (b"[" * 100_000, "nested|not JSON"),
        (b"[" * 100_001, "100001 commas and brackets"),
        (b"[" + b"[]," * 60_000 + b"1]", "120001 commas and brackets"),
    ],
)
def test_what_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(BodyError, match=words) as caught:
        parse_json(body)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_bounded_to_the_last_level(start: bytes, end: bytes) -> None:
    parse_json(start * (MAX_DEPTH - 1) + b"1" + end * (MAX_DEPTH - 1))
    for depth in (MAX_DEPTH, 900, 5_000):
        with pytest.raises(BodyError, match=f"more than {MAX_DEPTH} deep"):
            parse_json(start * depth + b"1" + end * depth)


def test_as_many_parts_as_there_may_be() -> None:
    assert parse_json(b"[" + b"1," * (MAX_MARKS - 1) + b"1]") == [1] * MAX_MARKS
