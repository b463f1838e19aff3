"""How many requests an engine takes at once, and in pieces of what size it works on them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vicrop_engine.engine_dir.manifest import Manifest
from vicrop_engine.engine_dir.memory import requests_that_fit, spare_bytes
from vicrop_engine.errors import SettingError

MOST_RUNNING = 8
ONE = 24 << 20  # bytes beside picture and states that a request takes while it is under way
MOST_KEPT = 256 << 20  # bytes of decoded pictures
KEPT_SHARE = 16  # decoded pictures kept get one part in so many of the memory left, where that is less
UNDER_WAY_SHARE = 2  # and those of requests under way one in so many
ALONE = 1.5  # of the room for pictures under way is there for one alone
LEFT_OPEN = ("running", "picture_bytes", "under_way_bytes")


@dataclass(frozen=True)
class SchedulerSettings:
    """Bounds of a scheduler.

    `workers` stages are computed at a time. `running` requests are under way (None: 8, or as many as fit
    half of the memory beside the weights, with what they compute), half of them at most with a picture in
    tiles, and `waiting` more are accepted. A prefill goes `prefill_chunk` tokens at a time, and up to
    `vision_batch` pictures go through the vision tower together. `picture_bytes` bounds what is kept of
    decoded pictures, and `under_way_bytes` what the pictures of requests under way take, as told from their
    headers: a request waits until there is room (None: 256 MiB and half of what this process may use beside
    the weights, less where that is little).
    A request not done `deadline` seconds after it came is given up.
    """

    workers: int = 2
    running: int | None = None
    waiting: int = 64
    prefill_chunk: int = 256
    vision_batch: int = 1
    picture_bytes: int | None = None
    under_way_bytes: int | None = None
    deadline: float = 120.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name in LEFT_OPEN and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise SettingError(f"got {name} {value!r}, wanted a number above 0")
            if name != "deadline" and not isinstance(value, int):
                raise SettingError(f"got {name} {value!r}, wanted a whole number from 1 up")

    def fitted(self, manifest: Manifest) -> SchedulerSettings:
        """The same with nothing left open, as fits the memory this process may use."""
        spare = spare_bytes(manifest)
        return replace(
            self,
            running=self.running or max(1, min(MOST_RUNNING, requests_that_fit(manifest), spare // ONE)),
            picture_bytes=self.picture_bytes or max(1, min(MOST_KEPT, spare // KEPT_SHARE)),
            under_way_bytes=self.under_way_bytes or max(1, spare // UNDER_WAY_SHARE),
        )

    @property
    def num_running(self) -> int:
        """Requests under way at most. Raises ValueError where that was left open."""
        return _fitted(self.running)

    @property
    def kept_bytes(self) -> int:
        """Bytes of decoded pictures kept. Raises ValueError where that was left open."""
        return _fitted(self.picture_bytes)

    @property
    def room(self) -> int:
        """Bytes for pictures of requests under way. Raises ValueError where that was left open."""
        return _fitted(self.under_way_bytes)

    @property
    def room_alone(self) -> int:
        """Bytes for the picture of one request while no other is under way, which is more."""
        return int(ALONE * self.room)

    @property
    def answers(self) -> int:
        """Answers decoded together at most: the first and the final one of every request under way."""
        return 2 * self.num_running


def _fitted(value: int | None) -> int:
    if value is None:
        raise ValueError("a bound is left open; take `fitted` first")
    return value
