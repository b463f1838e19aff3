"""What became of one query, and the times it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vicrop_engine.images.geometry import Box
from vicrop_engine.measure.bench.workload import Query

REUSES = ("prefix", "image_embeds", "general", "shared")


@dataclass(frozen=True)
class Said:
    """What has to be the same however a query is answered."""

    answer: str
    answer_without_crop: str | None
    crop_box: Box | None


@dataclass(frozen=True)
class Outcome:
    """One query's answer, or the name of the error there was instead.

    Times are seconds of one monotonic clock: when it was to be asked, when the first of an answer was there
    (None where that is not known), and when all was. `queued` are seconds before the work began, where they
    are known; `reused` are those of REUSES it profited from.
    """

    query: Query
    start: float
    first: float | None
    end: float
    said: Said | None = None
    error: str | None = None
    queued: float | None = None
    reused: tuple[str, ...] = ()

    @property
    def latency(self) -> float:
        """Seconds from when it was to be asked to the end of the answer."""
        return self.end - self.start

    @property
    def ttft(self) -> float | None:
        """Seconds to the first of an answer."""
        return None if self.first is None else self.first - self.start


class Target(Protocol):
    """Whoever answers. `ask` may be called from many threads."""

    def ask(self, query: Query, start: float | None = None) -> Outcome:
        """Put a query now; its times count from `start`, from now when None."""

    def processor_seconds(self) -> float | None:
        """Processor time used so far; None where it cannot be known."""
