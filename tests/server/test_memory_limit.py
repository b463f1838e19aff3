"""A server that may use little memory, and more large pictures at once than fit it."""

from __future__ import annotations

import pytest

from scripts.memory_group import MIB, memory_limit
from scripts.under_a_memory_limit import FORMATS, questions, under_limit

PICTURES, MEGAPIXELS = 16, 12


def test_large_pictures_at_once_are_answered_within_512_mib() -> None:
    """Sixteen pictures of 12 megapixels have 770 MB decoded. Each is answered as it is without a limit."""
    with memory_limit(512 * MIB) as bound:
        if bound.group is None:
            pytest.skip(f"no control group can be made here: {bound.kind}")
    report = under_limit(512 * MIB, questions(PICTURES, MEGAPIXELS, FORMATS[:2]), 1, MEGAPIXELS)
    assert report.wrong == []
    assert report.alive
    assert report.kills in (0, None)
    assert report.waves == [{"200": PICTURES}]
