"""Says how far the fetching or the writing of weights is: files or layer, bytes and time left.

Knows names of tensors and a clock; fetches and writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from threading import Lock
from time import monotonic

from vicrop_engine.errors import BuildError

Report = Callable[[str, float], None]
INTERVAL = 1.0  # seconds between two reports of bytes that arrive
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


class FetchProgress:
    """Turns what has arrived of some files into reports up to share `end`, one a second, from any thread."""

    def __init__(self, report: Report, end: float) -> None:
        self._report, self._end = report, end
        self._lock = Lock()
        self._stopped = False
        self._num_files = self._total = self._files = self._bytes = 0
        self._begun = self._said = monotonic()

    def begin(self, num_files: int, num_bytes: int) -> None:
        """So much is fetched from now on."""
        self._num_files, self._total = num_files, num_bytes
        self._begun = monotonic()
        self._say()

    def reach(self, num_bytes: int) -> None:
        """So many bytes have arrived, of all files together. Raises BuildError after `stop`."""
        with self._lock:
            self._bytes = max(self._bytes, num_bytes)
            self._go_on()

    def reach_files(self, num_files: int) -> None:
        """So many files are whole. Raises BuildError after `stop`."""
        with self._lock:
            self._files = num_files
            self._go_on()

    def stop(self) -> None:
        """Let the next bytes be the last."""
        self._stopped = True

    def rest(self) -> Report:
        """Takes reports of what comes after, from 0 to 1, and puts them in the share that is left."""
        behind = self._end if self._total else 0.0
        return lambda stage, share: self._report(stage, behind + (1 - behind) * share)

    def _go_on(self) -> None:
        if self._stopped:
            raise BuildError("fetching was stopped; run it again to go on")
        if self._total and (monotonic() - self._said >= INTERVAL or self._files == self._num_files):
            self._say()

    def _say(self) -> None:
        self._said = monotonic()
        sizes = f"{self._bytes / 1e6:.0f} of {self._total / 1e6:.0f} MB"
        stage = f"fetching weights, {self._files} of {self._num_files} files, {sizes}"
        if self._bytes:
            left = (self._said - self._begun) / self._bytes * max(0, self._total - self._bytes)
            stage += f", {left:.0f} s left"
        self._report(stage, self._end * min(1.0, self._bytes / self._total))
