"""Pictures of all requests through the vision tower, several in one run; the same pixels once.

Whoever has a worker slot runs what waits at the front, its own or not. Knows pixels and embeds; nothing of
requests.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from vicrop_engine.arrays import Floats
from vicrop_engine.counters import Tally
from vicrop_engine.images.preprocessing import pixel_digest
from vicrop_engine.model.vision import HostVisionTower
from vicrop_engine.serving.worker_slots import WorkerSlot


class VisionBatch:
    """Runs of up to `batch` pictures; image embeds are kept by the tower."""

    def __init__(self, tower: HostVisionTower, batch: int) -> None:
        self._tower, self._batch, self.cache = tower, batch, tower.cache
        self._lock = threading.Lock()
        self._coming: dict[bytes, Future[Floats]] = {}
        self._waiting: OrderedDict[bytes, Floats] = OrderedDict()

    def embed_all(self, pictures: Sequence[Floats], worker: WorkerSlot, tally: Tally) -> list[Floats]:
        """Image embeds [tokens, hidden] of each of these pixels [inputs, 3, height, width].

        Raises RunError, and what the worker slot's check raises.
        """
        coming = [self._come(pixels, tally) for pixels in pictures]
        worker.is_early = False
        while not all(future.done() for future in coming):
            worker.boundary()
            if not self._run_front():
                for future in coming:
                    worker.result(future)
        return [future.result() for future in coming]

    def _come(self, pixels: Floats, tally: Tally) -> Future[Floats]:
        """The embeds of one picture: known, on their way, or put in line."""
        key = pixel_digest(pixels)
        with self._lock:
            known = self.cache.get(key)
            future = self._coming.get(key)
            if known is None and future is None:
                tally.add(vision_images=1)
                self._waiting[key] = pixels
                future = self._coming[key] = Future()
                return future
            tally.add(vision_hits=1)
            if known is not None:
                future = Future()
                future.set_result(known)
        assert future is not None, "known or on its way"
        return future

    def _run_front(self) -> bool:
        """Run the pictures at the front of the line; False when there are none."""
        with self._lock:
            keys = list(self._waiting)[: self._batch]
            pixels = [self._waiting.pop(key) for key in keys]
        if not keys:
            return False
        try:
            made = self._tower.run(pixels)
        except BaseException as error:
            for key in keys:
                with self._lock:
                    future = self._coming.pop(key)
                future.set_exception(error)
            raise
        for key, embeds in zip(keys, made, strict=True):
            with self._lock:
                self.cache.put(key, embeds)
                future = self._coming.pop(key)
            future.set_result(embeds)
        return True


@dataclass(frozen=True)
class RequestVision:
    """The vision tower of one request."""

    batch: VisionBatch
    worker: WorkerSlot
    tally: Tally

    def embed(self, pixels: Floats) -> Floats:
        """Image embeds [tokens, hidden] of pixels [inputs, 3, height, width]."""
        return self.embed_all([pixels])[0]

    def forget(self) -> None:
        """Let go of all embeds, of every request."""
        self.batch.cache.clear()

    def check_integrity(self) -> None:
        """Raises AssertionError when the cache does not hold what it says it holds."""
        self.batch.cache.check_integrity()

    def embed_all(self, pictures: Sequence[Floats]) -> list[Floats]:
        """The same for several pictures."""
        return self.batch.embed_all(pictures, self.worker, self.tally)
