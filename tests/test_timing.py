"""The stopwatch: its stages add up to the total."""

from __future__ import annotations

import pytest

from vicrop_engine.timing import STAGES, Stopwatch


def test_every_moment_belongs_to_one_stage() -> None:
    ticks = iter([0.0, 1.0, 3.0, 7.0, 7.5])
    watch = Stopwatch(lambda: next(ticks))
    watch.enter("decode")
    watch.enter("prefill")
    watch.enter("decode")
    timings = watch.finish()
    assert list(timings) == [*STAGES, "total"]
    assert timings["preprocess"] == 1.0
    assert timings["decode"] == 2.5
    assert timings["prefill"] == 4.0
    assert timings["vision"] == 0.0
    assert timings["total"] == 7.5
    assert watch.spans == [
        ("preprocess", 0.0, 1.0),
        ("decode", 1.0, 3.0),
        ("prefill", 3.0, 7.0),
        ("decode", 7.0, 7.5),
    ]


def test_unknown_stages_are_a_mistake() -> None:
    with pytest.raises(KeyError):
        Stopwatch().enter("lunch")
