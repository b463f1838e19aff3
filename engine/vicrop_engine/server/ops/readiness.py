"""Whether a server is ready: not before a first question was answered, and no longer once it drains."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import numpy as np

from vicrop_engine.serving.scheduler import Scheduler

WARMING, READY, DRAINING, FAILED = "warming up", "ready", "draining", "failed"
QUESTION = "What is in the picture?"

logger = logging.getLogger(__name__)


class Readiness:
    """Where a server stands; `status` is one of the four words above.

    When the first question fails, `failure` says why and `on_failure` is called.
    """

    def __init__(self) -> None:
        self.status = WARMING
        self.failure: Exception | None = None
        self.on_failure: Callable[[], None] = lambda: None

    @property
    def is_ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.status == READY

    def drain(self) -> None:
        """What was accepted is being finished and nothing more should be sent."""
        self.status = DRAINING

    async def warm_up(self, scheduler: Scheduler) -> None:
        """Have a question about a made-up picture answered, crop and all, so that all is loaded and open."""
        picture = made_up_picture(3 * scheduler.engine.model.manifest.crop.window)
        try:
            handle = await asyncio.to_thread(scheduler.submit, picture, QUESTION)
            try:
                await asyncio.shield(asyncio.wrap_future(handle.future))
            finally:
                handle.cancel()
        except Exception as error:
            self.status, self.failure = FAILED, error
            self.on_failure()
            return
        if self.status == WARMING:
            self.status = READY
            logger.info("ready")


def made_up_picture(side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Slopes of colour, uint8 [side, side, 3]."""
    slope = np.linspace(0, 255, side, dtype=np.uint8)
    rows, cols = np.broadcast_to(slope[:, None], (side, side)), np.broadcast_to(slope, (side, side))
    return np.ascontiguousarray(np.stack([rows, cols, 255 - rows], axis=-1))
