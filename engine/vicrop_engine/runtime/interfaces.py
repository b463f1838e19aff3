"""What open graphs, their tensors and their KV buffers promise, on whichever runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt

PAST, PRESENT = "past_key_values.", "present."  # how names of keys and values begin, in and out


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
