"""Whatever bytes come as a picture: an answer or an ImageError of one sentence, and never anything else."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from scripts import hostile_pictures as hostile
from vicrop_engine.errors import ImageError
from vicrop_engine.images.picture import ImageLimits, open_picture
from vicrop_engine.images.structure import read_structure

LIMITS = ImageLimits(tuple(hostile.KINDS), max_pixels=1_000_000, max_bytes=1 << 20, trusted=False)
STARTS = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"RIFF\0\0\0\0WEBPVP8X", b""]


def opens(data: bytes) -> bool:
    """Whether it is a picture; what is wrong is said in one sentence without a place in memory or on disk."""
    try:
        width, height = open_picture(data, LIMITS).size
    except ImageError as error:
        message = str(error)
        assert message.isprintable()
        assert " at 0x" not in message
        assert "/" not in message.replace("'", "")
        return False
    assert min(width, height) >= 2
    assert width * height <= LIMITS.max_pixels
    return True


@settings(max_examples=300, deadline=None)
@given(start=st.sampled_from(STARTS), rest=st.binary(max_size=300))
def test_any_bytes(start: bytes, rest: bytes) -> None:
    opens(start + rest)


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(hostile.KINDS))
def test_changed_bytes(seed: int, kind: str) -> None:
    opens(hostile.mutated(random.Random(seed), kind))


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(hostile.KINDS))
def test_cut_off_at_any_byte(seed: int, kind: str) -> None:
    assert not opens(hostile.truncated(random.Random(seed), kind))


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(hostile.KINDS), length=st.integers(1, 60))
def test_bytes_put_in_between(seed: int, kind: str, length: int) -> None:
    chance = random.Random(seed)
    data = hostile.noise(chance, kind)
    at = chance.randrange(len(data))
    opens(data[:at] + chance.randbytes(length) + data[at:])


@settings(max_examples=300, deadline=None)
@given(start=st.sampled_from(STARTS), rest=st.binary(max_size=120))
def test_a_structure_or_an_error(start: bytes, rest: bytes) -> None:
    try:
        structure = read_structure(start + rest)
    except ImageError:
        return
    assert structure.kind in hostile.KINDS
    assert all(0 <= side < 1 << 32 for side in structure.size)
