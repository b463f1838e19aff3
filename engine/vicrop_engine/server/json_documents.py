"""Request bodies as JSON documents: RFC 8259 to the letter, and no larger inside than outside."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from vicrop_engine.errors import BodyError

MAX_DEPTH = 32

MAX_MARKS = 100_000  # commas and opening brackets: an empty list of two bytes takes fifty in memory

MAX_DIGITS = 30

_HALF_PAIR = re.compile("[\ud800-\udfff]")


def body_text(body: bytes | bytearray) -> str:
    """The text of a body. Raises BodyError for what is not UTF-8, and documents of many parts."""
    marks = sum(body.count(mark) for mark in (b",", b"[", b"{"))
    if marks > MAX_MARKS:
        raise BodyError(f"the body has {marks} commas and brackets and the limit is {MAX_MARKS}; send less")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BodyError(f"the body is not UTF-8 (byte {error.start}); send JSON in UTF-8") from error


def parse_json(body: bytes) -> object:
    """The document in a body. Raises BodyError as the two steps do that it is made of."""
    return parse_text(body_text(body))


def parse_text(text: str) -> object:
    """The document in a body's text.

    Raises BodyError for what is not JSON (NaN, Infinity and keys given twice included), numbers beyond
    float64 or MAX_DIGITS, half a surrogate pair, and deep nesting.
    """
    try:
        document: object = json.loads(
            text,
            parse_constant=_no_number,
            parse_int=_whole,
            parse_float=_finite,
            object_pairs_hook=_object,
        )
    except RecursionError as error:
        raise BodyError(f"the body is nested more than {MAX_DEPTH} deep; send a flatter one") from error
    except json.JSONDecodeError as error:
        raise BodyError(
            f"the body is not JSON ({error.msg} at line {error.lineno}, column {error.colno}); send an object"
        ) from error
    _check_values(document)
    return document


def _no_number(name: str) -> NoReturn:
    raise BodyError(f"the body holds {name}, which JSON does not have; send a number")


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise BodyError(f"the body holds a number of {len(digits)} digits; send at most {MAX_DIGITS}")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise BodyError("the body holds a number beyond float64; send a smaller one")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BodyError(f"the body gives key {twice[:40]!r} twice in one object; give it once")
    return made


def _check_values(document: object) -> None:
    """Depth and texts, level by level. Raises BodyError."""
    level, depth = [document], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise BodyError(f"the body is nested more than {MAX_DEPTH} deep; send a flatter one")
        for value in level:
            _check_texts(value if isinstance(value, dict) else [value])
        level = [inner for value in level for inner in _inside(value)]


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _check_texts(values: Iterable[object]) -> None:
    for text in values:
        if isinstance(text, str) and not text.isascii() and _HALF_PAIR.search(text):
            raise BodyError("the body holds half a surrogate pair; send whole characters")


Document = dict[str, Any]


def encode(document: Document) -> bytes:
    """As UTF-8 JSON; half a surrogate pair, which a client can send, becomes a question mark."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")
