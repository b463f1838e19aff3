"""How many requests an engine takes at once, and in pieces of what size it works on them."""

from __future__ import annotations

from dataclasses import dataclass

from vicrop_engine.errors import SettingError


@dataclass(frozen=True)
class SchedulerSettings:
    """Bounds of a scheduler.

    `workers` stages are computed at a time. `running` requests are under way, half of them at most with a
    picture in tiles, and `waiting` more are accepted. A prefill goes `prefill_chunk` tokens at a time, and up
    to `vision_batch` pictures go through the vision tower together. `picture_bytes` bounds what is kept of
    decoded pictures. A request not done `deadline` seconds after it came is given up.
    """

    workers: int = 2
    running: int = 8
    waiting: int = 64
    prefill_chunk: int = 256
    vision_batch: int = 4
    picture_bytes: int = 256 << 20
    deadline: float = 120.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise SettingError(f"got {name} {value!r}, wanted a number above 0")
            if name != "deadline" and not isinstance(value, int):
                raise SettingError(f"got {name} {value!r}, wanted a whole number from 1 up")

    @property
    def answers(self) -> int:
        """Answers decoded together at most: the first and the final one of every request under way."""
        return 2 * self.running
