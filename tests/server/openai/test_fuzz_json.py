"""Whatever bytes come as a body: a document that is JSON again, or a BodyError."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from vicrop_engine.errors import BodyError
from vicrop_engine.server.json_documents import parse_json

LEAVES = st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False) | st.text()
DOCUMENTS = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


def parsed(body: bytes) -> object:
    try:
        found = parse_json(body)
    except BodyError as error:
        found = error
    return found


def is_plain(found: object) -> bool:
    """A refusal is a printable sentence; whatever else was found can be written as JSON again."""
    if isinstance(found, BodyError):
        return str(found).isprintable()
    return bool(json.dumps(found, allow_nan=False).encode("utf-8"))


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    assert is_plain(parsed(body))


@settings(max_examples=300, deadline=None)
@given(body=st.text(alphabet='{}[]",:0123456789.eE+-\\/untrfals \ud800é', max_size=60))
def test_signs_of_json(body: str) -> None:
    assert is_plain(parsed(body.encode("utf-8", "surrogatepass")))


@settings(max_examples=80, deadline=None)
@given(document=DOCUMENTS.filter(lambda value: "Infinity" not in json.dumps(value)))
def test_documents_come_back(document: object) -> None:
    assert parsed(json.dumps(document).encode()) == document


@settings(max_examples=80, deadline=None)
@given(document=DOCUMENTS, at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_documents_with_a_byte_changed(document: object, at: int, byte: int) -> None:
    body = bytearray(json.dumps({"model": "a", "messages": document}).encode())
    body[at % len(body)] = byte
    assert is_plain(parsed(bytes(body)))
