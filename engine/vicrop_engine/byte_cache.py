"""A cache bounded in bytes, least recently used first to go. Threads may share it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """Anything that knows how many bytes it holds."""

    @property
    def nbytes(self) -> int:
        """Bytes held now."""


V = TypeVar("V", bound=Sized)


class ByteCache(Generic[V]):
    """Least recently used values whose bytes together stay within `capacity`; what is larger is not kept."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.nbytes = 0
        self.lock = threading.RLock()
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def values(self) -> list[V]:
        """What is held, the least recently used first."""
        with self.lock:
            return [value for value, _ in self._values.values()]

    def get(self, key: Hashable) -> V | None:
        """The value, now the most recently used; None when it is not held."""
        with self.lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: V) -> None:
        """Hold `value`, in place of what `key` held, and let the least recently used go until the rest fits.

        A value that has grown is to be put again.
        """
        with self.lock:
            self._drop(key)
            size = value.nbytes
            if size > self.capacity:
                return
            self._values[key] = (value, size)
            self.nbytes += size
            while self.nbytes > self.capacity:
                self._drop(next(iter(self._values)))

    def clear(self) -> None:
        """Let go of everything."""
        with self.lock:
            for key in list(self._values):
                self._drop(key)

    def check_integrity(self) -> None:
        """Raises AssertionError when the byte count is not what the values hold, or over the capacity."""
        with self.lock:
            actual = sum(value.nbytes for value, _ in self._values.values())
            if not self.nbytes == actual <= self.capacity:
                raise AssertionError(f"{self.nbytes} bytes counted, {actual} held, {self.capacity} allowed")

    def _drop(self, key: Hashable) -> None:
        if key in self._values:
            self.nbytes -= self._values.pop(key)[1]
