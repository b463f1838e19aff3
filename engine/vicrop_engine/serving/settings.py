"""How many requests an engine takes at once, and in pieces of what size it works on them."""

from __future__ import annotations

from dataclasses import dataclass

from vicrop_engine.errors import SettingError


@dataclass(frozen=True)
class SchedulerSettings:
    """Bounds of a scheduler.

    `workers` stages are computed at a time, each on `threads` of the engine (None: a worker for every core
    the engine was opened without sharing). `running` requests are under way, `waiting` more are accepted;
    `answers` are decoded together. A prefill goes `prefill_chunk` tokens at a time, and `vision_batch`
    pictures go through the vision tower together. A request not done `deadline` seconds after it came is
    given up.
    """

    workers: int = 2
    running: int = 8
    waiting: int = 64
    answers: int = 16
    prefill_chunk: int = 256
    vision_batch: int = 4
    deadline: float = 120.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise SettingError(f"got {name} {value!r}, wanted a number above 0")
            if name != "deadline" and not isinstance(value, int):
                raise SettingError(f"got {name} {value!r}, wanted a whole number from 1 up")
