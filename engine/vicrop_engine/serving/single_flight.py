"""Values that several requests want at the same time: made by the first, had by all, kept within bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

from vicrop_engine.byte_cache import ByteCache, Sized
from vicrop_engine.serving.worker_slots import WorkerSlot

V = TypeVar("V", bound=Sized)


class SingleFlight(Generic[V]):
    """Values by key, least recently used first to go when there are more than `cache_bytes`."""

    def __init__(self, cache_bytes: int) -> None:
        self._lock = threading.Lock()
        self._coming: dict[Hashable, Future[V]] = {}
        self.cache: ByteCache[V] = ByteCache(cache_bytes)

    def get(self, key: Hashable, worker: WorkerSlot, make: Callable[[], V]) -> V:
        """The value, made now if nobody has made it or does so already. Raises what `make` raises."""
        with self._lock:
            known = self.cache.get(key)
            if known is not None:
                return known
            future = self._coming.get(key)
            is_mine = future is None
            if future is None:
                future = self._coming[key] = Future()
        return self._made(key, future, make) if is_mine else worker.result(future)

    def _made(self, key: Hashable, future: Future[V], make: Callable[[], V]) -> V:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._coming[key]
            future.set_exception(error)
            raise
        with self._lock:
            self.cache.put(key, value)
            del self._coming[key]
        future.set_result(value)
        return value
