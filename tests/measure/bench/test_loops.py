"""How queries are put: how many at a time, when, and from when their latency counts."""

from __future__ import annotations

import numpy as np
import pytest

from tests.measure.bench.targets import Counting, queries
from vicrop_engine.measure.bench.loops import closed_loop, one_by_one, open_loop, run


def test_one_by_one_is_never_two() -> None:
    target = Counting()
    made = run(one_by_one, target, queries(6))
    assert target.most == 1
    assert target.asked == [each.query.number for each in made.outcomes] == list(range(6))
    assert made.processor == 12.0


@pytest.mark.parametrize("clients", [1, 3, 8])
def test_a_closed_loop_has_as_many_under_way_as_clients(clients: int) -> None:
    target = Counting(meeting=clients)  # which hangs, and then breaks, with fewer
    made = run(closed_loop(clients), target, queries(3 * clients))
    assert target.most == clients
    assert [each.query.number for each in made.outcomes] == list(range(3 * clients))


def test_an_open_loop_counts_from_when_queries_were_to_come() -> None:
    """The target answers none until all are there: whoever waited for an answer would never ask the last."""
    target = Counting(meeting=20)
    made = run(open_loop(500.0, seed=7), target, queries(20))
    starts = np.array([each.start for each in made.outcomes])
    gaps = np.random.default_rng(7).exponential(1 / 500, 20)
    np.testing.assert_allclose(np.diff(starts), gaps[1:], atol=1e-6)
    assert target.most == 20
    assert all(
        each.latency >= last - first
        for each, first, last in zip(made.outcomes, starts, [starts[-1]] * 20, strict=True)
    )
