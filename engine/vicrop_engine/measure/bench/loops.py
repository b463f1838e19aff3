"""Ways to put queries: one after the other, so many at a time, or at a rate whatever the answers take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from vicrop_engine.measure.bench.outcome import Outcome, Target
from vicrop_engine.measure.bench.workload import Query

MOST_AT_ONCE = 512  # threads of an open loop; queries that find none free are late, which their latency says
Loop = Callable[[Target, Sequence[Query]], list[Outcome]]


@dataclass(frozen=True)
class Run:
    """Outcomes in the order of the queries, and the processor time they took where that is known."""

    outcomes: tuple[Outcome, ...]
    processor: float | None

    @property
    def seconds(self) -> float:
        """From the first query to the last answer."""
        return max(each.end for each in self.outcomes) - min(each.start for each in self.outcomes)


def run(loop: Loop, target: Target, queries: Sequence[Query]) -> Run:
    """Put the queries, and take the times."""
    before = target.processor_seconds()
    outcomes = loop(target, queries)
    after = target.processor_seconds()
    return Run(tuple(outcomes), None if before is None or after is None else after - before)


def one_by_one(target: Target, queries: Sequence[Query]) -> list[Outcome]:
    """Each when the one before is answered."""
    return [target.ask(query) for query in queries]


def closed_loop(concurrency: int) -> Loop:
    """So many clients, each of whom asks again when its answer is there."""

    def loop(target: Target, queries: Sequence[Query]) -> list[Outcome]:
        with ThreadPoolExecutor(concurrency) as clients:
            return list(clients.map(target.ask, queries))

    return loop


def open_loop(rate: float, seed: int) -> Loop:
    """Queries that come on their own, `rate` a second on average as a Poisson process from a seed.

    Latency counts from when a query was to come, even when it could not be put then.
    """

    def loop(target: Target, queries: Sequence[Query]) -> list[Outcome]:
        gaps = np.random.default_rng(seed).exponential(1 / rate, len(queries))
        with ThreadPoolExecutor(min(len(queries), MOST_AT_ONCE)) as clients:
            began = time.monotonic()
            futures = []
            for query, arrival in zip(queries, np.cumsum(gaps).tolist(), strict=True):
                time.sleep(max(0.0, began + arrival - time.monotonic()))
                futures.append(clients.submit(target.ask, query, began + arrival))
            return [future.result() for future in futures]

    return loop
