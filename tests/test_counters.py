"""The running totals: they add up, and a name that is not counted is a mistake."""

from __future__ import annotations

import pytest

from vicrop_engine.counters import Counters, Tally


def test_amounts_add_up_and_a_snapshot_stays() -> None:
    tally = Tally()
    tally.add(decode_steps=2, lower_passes=1)
    before = tally.snapshot()
    tally.add(decode_steps=3)
    assert before == Counters(decode_steps=2, lower_passes=1)
    assert tally.snapshot() == Counters(decode_steps=5, lower_passes=1)


def test_an_unknown_name_is_a_mistake() -> None:
    with pytest.raises(KeyError, match="lunches"):
        Tally().add(lunches=1)
