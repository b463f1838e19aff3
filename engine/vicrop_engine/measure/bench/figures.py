"""What a run comes to: percentiles, throughput, and shares of the requests that profited from something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vicrop_engine.measure.bench.loops import Run
from vicrop_engine.measure.bench.outcome import REUSES, Outcome

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Spread:
    """Median, 95th and 99th percentile and mean, in seconds."""

    p50: float
    p95: float
    p99: float
    mean: float


@dataclass(frozen=True)
class Figures:
    """Figures of one run; those that cannot be known are None.

    `throughput` is answers a second. `reused` are shares, 0 to 1, of the answers that profited; `errors`
    counts requests without an answer by kind. `processor` is processor time an answer, in seconds.
    """

    requests: int
    answers: int
    seconds: float
    throughput: float
    latency: Spread | None
    ttft: Spread | None
    queued: Spread | None
    reused: dict[str, float]
    errors: dict[str, int]
    processor: float | None

    def to_json(self) -> dict[str, Any]:
        """With plain numbers and names."""
        return asdict(self)


def figures(run: Run) -> Figures:
    """The figures of a run."""
    done = answered(run.outcomes)
    return Figures(
        requests=len(run.outcomes),
        answers=len(done),
        seconds=run.seconds,
        throughput=len(done) / run.seconds,
        latency=spread([each.latency for each in done]),
        ttft=spread([each.ttft for each in done if each.ttft is not None]),
        queued=spread([each.queued for each in done if each.queued is not None]),
        reused={name: _share(done, name) for name in REUSES},
        errors=dict(Counter(each.error for each in run.outcomes if each.error is not None)),
        processor=None if run.processor is None or not done else run.processor / len(done),
    )


def answered(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those with an answer."""
    return [each for each in outcomes if each.said is not None]


def spread(seconds: Sequence[float]) -> Spread | None:
    """None of nothing."""
    if not seconds:
        return None
    p50, p95, p99 = np.percentile(seconds, PERCENTILES).tolist()
    return Spread(p50, p95, p99, float(np.mean(seconds)))


def _share(done: Sequence[Outcome], name: str) -> float:
    return sum(name in each.reused for each in done) / len(done) if done else 0.0
