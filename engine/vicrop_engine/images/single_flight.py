"""Values that several want at the same time: made by the first, had by all, kept within bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

from vicrop_engine.byte_cache import ByteCache, Sized

T = TypeVar("T")
V = TypeVar("V", bound=Sized)


class Wait(Protocol):
    """How somebody waits for what another makes."""

    def __call__(self, future: Future[T]) -> T:
        """The result. Raises what ended the future."""


def wait_for(future: Future[T]) -> T:
    """Wait as long as it takes."""
    return future.result()


class SingleFlight(Generic[V]):
    """Values by key, least recently used first to go when there are more than `cache_bytes`.

    An error is its maker's alone: whoever waited makes the value again, and may fare better.
    """

    def __init__(self, cache_bytes: int) -> None:
        self._lock = threading.Lock()
        self._coming: dict[Hashable, Future[V | None]] = {}
        self.cache: ByteCache[V] = ByteCache(cache_bytes)

    def get(self, key: Hashable, make: Callable[[], V], wait: Wait = wait_for) -> V:
        """The value, made now if nobody has made it or does so already. Raises what `make` raises."""
        value: V | None = None
        while value is None:
            with self._lock:
                value = self.cache.get(key)
                if value is not None:
                    return value
                future = self._coming.get(key)
                if future is None:
                    mine = self._coming[key] = Future()
            value = self._made(key, mine, make) if future is None else wait(future)
        return value

    def _made(self, key: Hashable, future: Future[V | None], make: Callable[[], V]) -> V:
        try:
            value = make()
        except BaseException:
            with self._lock:
                del self._coming[key]
            future.set_result(None)
            raise
        with self._lock:
            self.cache.put(key, value)
            del self._coming[key]
        future.set_result(value)
        return value
