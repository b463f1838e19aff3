"""Pictures of all requests through the vision tower, several in one run; the same picture once.

Whoever has a worker slot runs what waits at the front, its own or not. Knows the tower's inputs and embeds;
nothing of requests.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from vicrop_engine.arrays import Floats
from vicrop_engine.counters import Tally
from vicrop_engine.images.seen import VisionInputs
from vicrop_engine.model.vision import HostVisionTower
from vicrop_engine.serving.worker_slots import WorkerSlot


class VisionBatch:
    """Runs of up to `batch` pictures; image embeds are kept by the tower."""

    def __init__(self, tower: HostVisionTower, batch: int) -> None:
        self._tower, self._batch, self.cache = tower, batch, tower.cache
        self._lock = threading.Lock()
        self._coming: dict[bytes, Future[Floats]] = {}
        self._waiting: OrderedDict[bytes, VisionInputs] = OrderedDict()

    def embed_all(self, pictures: Sequence[VisionInputs], worker: WorkerSlot, tally: Tally) -> list[Floats]:
        """Image embeds [1 + added, tokens, hidden] of each of these pictures.

        Raises RunError, and what the worker slot's check raises.
        """
        coming = [self._come(inputs, tally) for inputs in pictures]
        worker.is_early = False
        while not all(future.done() for future in coming):
            worker.boundary()
            if not self._run_front():
                for future in coming:
                    worker.result(future)
        return [future.result() for future in coming]

    def _come(self, inputs: VisionInputs, tally: Tally) -> Future[Floats]:
        """The embeds of one picture: known, on their way, or put in line."""
        key = inputs.digest
        with self._lock:
            known = self.cache.get(key)
            future = self._coming.get(key)
            if known is None and future is None:
                tally.add(vision_images=1)
                self._waiting[key] = inputs
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
            pictures = [self._waiting.pop(key) for key in keys]
        if not keys:
            return False
        try:
            made = self._tower.run(pictures)
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

    def embed(self, inputs: VisionInputs) -> Floats:
        """Image embeds [1 + added, tokens, hidden] of a picture."""
        return self.embed_all([inputs])[0]

    def forget(self) -> None:
        """Let go of all embeds, of every request."""
        self.batch.cache.clear()

    def check_integrity(self) -> None:
        """Raises AssertionError when the cache does not hold what it says it holds."""
        self.batch.cache.check_integrity()

    def embed_all(self, pictures: Sequence[VisionInputs]) -> list[Floats]:
        """The same for several pictures."""
        return self.batch.embed_all(pictures, self.worker, self.tally)
