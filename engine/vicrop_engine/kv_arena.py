"""KV buffers of several sequences side by side, in slots of one size. Knows rows; nothing of tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vicrop_engine.kv_cache import BoundGraph, KVBuffers

Floats = npt.NDArray[np.float32]
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
