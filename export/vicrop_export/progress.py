"""Says how far the writing of weights is: layer, bytes and time left.

Knows names of tensors and a clock; writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import monotonic

Report = Callable[[str, float], None]
_LAYER = re.compile(r"layers\.(\d+)\.")


class WeightProgress:
    """Turns the weights written into reports from share `start` to `end`; `num_bytes` are still to come."""

    def __init__(self, report: Report, num_bytes: int, start: float, end: float) -> None:
        self._report, self._total, self._start, self._end = report, max(1, num_bytes), start, end
        self._done = 0
        self._seconds = 0.0
        self._begun = monotonic()
        self._graph = self._said = ""

    def enter(self, graph: str) -> None:
        """The weights of this graph come now; only time from here on counts."""
        self._graph = graph
        self._begun = monotonic()

    def add(self, source: str, num_bytes: int) -> None:
        """One more weight, of this name in the checkpoint, is written."""
        now = monotonic()
        self._seconds += now - self._begun
        self._begun = now
        self._done += num_bytes
        found = _LAYER.search(source)
        place = f"{self._graph}: layer {found[1]}" if found else self._graph
        if place == self._said:
            return
        self._said = place
        self._report(f"writing {place}, {self._sizes()}, {self._left()}", self._share())

    def _share(self) -> float:
        return self._start + (self._end - self._start) * min(1.0, self._done / self._total)

    def _sizes(self) -> str:
        return f"{self._done / 1e6:.0f} of {self._total / 1e6:.0f} MB"

    def _left(self) -> str:
        left = self._seconds / max(1, self._done) * max(0, self._total - self._done)
        return f"{left:.0f} s left"
