"""Keys and values of one picture's tokens: buffers written in place, forked by going back to a length.

Nothing is ever copied to continue or to fork. Knows rows and lengths; nothing of graphs or of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vicrop_engine.arrays import Floats
from vicrop_engine.runtime.interfaces import BoundGraph

CAPACITY_STEP = 64  # so that a slightly longer question about a picture fits the buffers it has


def roomy(num_tokens: int) -> int:
    """The capacity to ask for when so many tokens have to fit."""
    return -(-num_tokens // CAPACITY_STEP) * CAPACITY_STEP


@dataclass
class KVBuffers:
    """Room for `capacity` tokens in the layers of the lower and the upper graph."""

    lower: BoundGraph
    upper: BoundGraph
    capacity: int
    _writes: list[tuple[int, int]] = field(default_factory=list, init=False)
    _num_writes: int = field(default=0, init=False)

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers, used or not."""
        tensors = (*self.lower.buffers.values(), *self.upper.buffers.values())
        return sum(tensor.tensor_size_in_bytes() for tensor in tensors)

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
        for index, (_, number) in enumerate(self._writes):
            if number == cache.number:
                later = self._writes[index + 1 :]
                return not later or later[0][0] >= cache.length
        return False


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

    def first(self, number: int) -> KVBuffers:
        """The first slots as buffers of a batch, on the same memory."""
        lower, upper = (
            bind({name: array[:number] for name, array in arrays.items()})
            for bind, arrays in zip(self.bind, (self.lower, self.upper), strict=True)
        )
        return KVBuffers(lower, upper, self.capacity)

    def take(self, slot: int, source: KVBuffers, length: int) -> None:
        """Copy the first `length` rows of a sequence's own buffers into a slot."""
        for arrays, graph in ((self.lower, source.lower), (self.upper, source.upper)):
            for name, array in arrays.items():
                array[slot, :, :length] = graph.buffers[name].numpy()[0, :, :length]

    def move(self, source: int, slot: int, length: int) -> None:
        """Copy the first `length` rows of one slot to another."""
        for arrays in (self.lower, self.upper):
            for array in arrays.values():
                array[slot, :, :length] = array[source, :, :length]
