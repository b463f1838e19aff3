"""Keys and values of one picture's tokens: buffers written in place, forked by going back to a length.

Nothing is copied to continue or to fork; serving copies an answer's rows into a slot of the arena. Knows rows
and lengths; nothing of graphs or of tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from vicrop_engine.arrays import Floats
from vicrop_engine.model.states import of_kind
from vicrop_engine.runtime.interfaces import BoundGraph

CAPACITY_STEP = 64  # so that a slightly longer question about a picture fits the buffers it has


def roomy(num_tokens: int) -> int:
    """The capacity to ask for when so many tokens have to fit."""
    return -(-num_tokens // CAPACITY_STEP) * CAPACITY_STEP


class Sized(Protocol):
    """A tensor, as the runtime asks it for its size."""

    def tensor_size_in_bytes(self) -> int:
        """Its size."""


class HasBuffers(Protocol):
    """A decoder graph with KV buffers of its own, by input name, wherever they are."""

    @property
    def buffers(self) -> Mapping[str, Sized]:
        """The buffers, at one address for as long as they live."""


class KVBuffers(ABC):
    """Room for `capacity` tokens in the layers of the lower and the upper graph, and who wrote which rows."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._writes: list[tuple[int, int]] = []
        self._num_writes = 0

    @property
    @abstractmethod
    def sides(self) -> tuple[HasBuffers, HasBuffers]:
        """The lower and the upper graph."""

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers, used or not."""
        return sum(tensor.tensor_size_in_bytes() for side in self.sides for tensor in side.buffers.values())

    def write(self, start: int, stop: int, length: int) -> KVCache:
        """Claim rows `start` to `stop` for writing, of which those up to `length` are to be continued.

        Whatever was written from `start` on is stale from now on. Raises ValueError beyond the capacity.
        """
        if stop > self.capacity:
            raise ValueError(f"{stop} tokens do not fit buffers for {self.capacity}; reserve more first")
        while self._writes and self._writes[-1][0] >= start:
            self._writes.pop()
        self._num_writes += 1
        self._writes.append((start, self._num_writes))
        return KVCache(self, length, self._num_writes)

    def is_latest(self, cache: KVCache) -> bool:
        """Whether nothing at all has been written since `cache` was, not even beyond its rows."""
        return cache.number == self._num_writes

    def holds(self, cache: KVCache) -> bool:
        """Whether nothing has written over the rows of `cache` since it was made."""
        later = self.capacity  # where the next of the writes that still stand begins
        for start, number in reversed(self._writes):
            if number <= cache.number:
                return number == cache.number and later >= cache.length
            later = start
        return False


class HostKVBuffers(KVBuffers):
    """Buffers that the host's graphs are bound to."""

    def __init__(self, lower: BoundGraph, upper: BoundGraph, capacity: int) -> None:
        super().__init__(capacity)
        self.lower, self.upper = lower, upper

    @property
    def sides(self) -> tuple[BoundGraph, BoundGraph]:
        """The lower and the upper graph."""
        return self.lower, self.upper


def host_buffers(buffers: KVBuffers) -> HostKVBuffers:
    """The buffers as the host's graphs are bound to them. Raises TypeError for a device's."""
    return of_kind(HostKVBuffers, buffers)


@dataclass(frozen=True)
class KVCache:
    """The first `length` tokens of some buffers as their write `number` left them."""

    buffers: KVBuffers
    length: int
    number: int

    def grown(self, num_new: int) -> KVCache:
        """This cache with room claimed for `num_new` tokens after it. Raises ValueError when it is stale."""
        if not self.buffers.holds(self):
            raise ValueError("another continuation wrote over these keys and values; run the prompt again")
        return self.buffers.write(self.length, self.length + num_new, self.length + num_new)


Arrays = Mapping[str, Floats]
Bind = Callable[[Arrays], BoundGraph]


@dataclass(frozen=True)
class KVArena:
    """Buffers [slots, kv_heads, capacity, head_dim] by input name, of the lower and the upper graph.

    `bind` gives each graph with buffers of some of the slots.
    """

    lower: Arrays
    upper: Arrays
    bind: tuple[Bind, Bind]
    capacity: int

    def first(self, number: int) -> HostKVBuffers:
        """The first slots as buffers of a batch, on the same memory."""
        lower, upper = (
            bind({name: array[:number] for name, array in arrays.items()})
            for bind, arrays in zip(self.bind, (self.lower, self.upper), strict=True)
        )
        return HostKVBuffers(lower, upper, self.capacity)

    def take(self, slot: int, source: KVBuffers, length: int) -> None:
        """Copy the first `length` rows of a sequence's own buffers into a slot."""
        own = host_buffers(source)
        for arrays, graph in ((self.lower, own.lower), (self.upper, own.upper)):
            for name, array in arrays.items():
                array[slot, :, :length] = graph.buffers[name].numpy()[0, :, :length]

    def move(self, source: int, slot: int, length: int) -> None:
        """Copy the first `length` rows of one slot to another."""
        for arrays in (self.lower, self.upper):
            for array in arrays.values():
                array[slot, :, :length] = array[source, :, :length]
