"""Keys and values of one picture's tokens: buffers written in place, forked by going back to a length.

Nothing is ever copied to continue or to fork. Knows rows and lengths; nothing of graphs or of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy.typing as npt

PAST, PRESENT = "past_key_values.", "present."  # how names of keys and values begin, in and out
CAPACITY_STEP = 64  # so that a slightly longer question about a picture fits the buffers it has


def roomy(num_tokens: int) -> int:
    """The capacity to ask for when so many tokens have to fit."""
    return -(-num_tokens // CAPACITY_STEP) * CAPACITY_STEP


class Tensor(Protocol):
    """A tensor where the graphs left it."""

    def numpy(self) -> npt.NDArray[Any]:
        """Its values on the host."""

    def tensor_size_in_bytes(self) -> int:
        """Its size."""


Feed = npt.NDArray[Any] | Tensor


class BoundStep(Protocol):
    """A decoder graph whose other inputs and outputs are arrays or tensors that stay."""

    def run(self, changed: Mapping[str, Tensor]) -> None:
        """One run, with these inputs instead; results without an array of their name are let go."""


class BoundGraph(Protocol):
    """A decoder graph with KV buffers of its own, by input name.

    They are [1, kv_heads, capacity, head_dim], or token by token [1, capacity, kv_heads, head_dim].
    """

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """The buffers, at one address for as long as they live."""

    def run(self, feeds: Mapping[str, Feed]) -> dict[str, Tensor]:
        """The other outputs by name; the new tokens' keys and values are written into the buffers."""

    def step(self, feeds: Mapping[str, Feed]) -> BoundStep:
        """Runs of one shape from and into these, by name; arrays are filled in place between runs."""

    def take(self, source: BoundGraph, length: int) -> None:
        """Copy the first `length` tokens of the buffers of another one of this graph."""


class OpenGraph(Protocol):
    """One graph ready to run, of whichever runtime."""

    @property
    def name(self) -> str:
        """The graph's name."""

    @property
    def takes_answers(self) -> bool:
        """Whether it gives the logits of as many tokens as asked for."""

    def run(self, feeds: Mapping[str, Feed]) -> dict[str, Tensor]:
        """All outputs by name. Feeds the graph lacks are left out. Raises RunError."""

    def bound(self, capacity: int) -> BoundGraph:
        """This graph with KV buffers for `capacity` tokens."""

    def tensor(self, feed: Feed) -> Tensor:
        """The feed where the graph wants it; what is there already is returned as it is."""


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
