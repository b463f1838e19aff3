"""How many requests an engine takes at once, and in pieces of what size it works on them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vicrop_engine.engine_dir.manifest import Manifest
from vicrop_engine.engine_dir.memory import requests_that_fit
from vicrop_engine.errors import SettingError

MOST_RUNNING = 8


@dataclass(frozen=True)
class SchedulerSettings:
    """Bounds of a scheduler.

    `workers` stages are computed at a time. `running` requests are under way (None: 8, or as many as fit half
    of the memory beside the weights), half of them at most with a picture in tiles, and `waiting` more are
    accepted. A prefill goes `prefill_chunk` tokens at a time, and up to `vision_batch` pictures go through
    the vision tower together. `picture_bytes` bounds what is kept of decoded pictures. A request not done
    `deadline` seconds after it came is given up.
    """

    workers: int = 2
    running: int | None = None
    waiting: int = 64
    prefill_chunk: int = 256
    vision_batch: int = 1
    picture_bytes: int = 256 << 20
    deadline: float = 120.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "running" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise SettingError(f"got {name} {value!r}, wanted a number above 0")
            if name != "deadline" and not isinstance(value, int):
                raise SettingError(f"got {name} {value!r}, wanted a whole number from 1 up")

    def fitted(self, manifest: Manifest) -> SchedulerSettings:
        """The same with a number of requests under way."""
        return replace(self, running=self.running or min(MOST_RUNNING, requests_that_fit(manifest)))

    @property
    def num_running(self) -> int:
        """Requests under way at most. Raises ValueError where that was left open."""
        if self.running is None:
            raise ValueError("how many run is left open; take `fitted` first")
        return self.running

    @property
    def answers(self) -> int:
        """Answers decoded together at most: the first and the final one of every request under way."""
        return 2 * self.num_running
