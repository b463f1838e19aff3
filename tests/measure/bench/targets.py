"""Targets that answer as a test wants."""

from __future__ import annotations

import threading
import time
from typing import Any

from vicrop_engine.measure.bench.outcome import Outcome, Said
from vicrop_engine.measure.bench.workload import Query

SAID = Said("5", "0", (1, 2, 3, 4))


def queries(count: int, high_res: tuple[int, ...] = ()) -> list[Query]:
    """So many, those with these numbers in tiles."""
    return [
        Query(at, at // 4, f"Question {at}?", "on" if at in high_res else "off", b"") for at in range(count)
    ]


class Counting:
    """Answers at once, and remembers how many were asked at the same time and what they counted from."""

    def __init__(self, meeting: int = 1) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._meeting = threading.Barrier(meeting)
        self.most = 0
        self.starts: list[float | None] = []
        self.asked: list[int] = []

    def ask(self, query: Query, start: float | None = None) -> Outcome:
        """Wait until as many as should meet are here, so that they are really there together."""
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
            self.starts.append(start)
            self.asked.append(query.number)
        self._meeting.wait(30)
        with self._lock:
            self._inside -= 1
        now = time.monotonic()
        return Outcome(query, now if start is None else start, now, now, SAID)

    def processor_seconds(self) -> float:
        """Twice the questions asked."""
        return 2.0 * len(self.asked)


def outcome(query: Query, latency: float, said: Said | None = SAID, **more: Any) -> Outcome:
    """An outcome of so many seconds, begun at zero."""
    return Outcome(query, 0.0, latency / 2, latency, said, **more)
