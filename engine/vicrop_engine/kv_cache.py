"""Keys and values of a prefix as one immutable value that any number of continuations share by reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt


class Tensor(Protocol):
    """A tensor where the graphs left it."""

    def numpy(self) -> npt.NDArray[Any]:
        """Its values on the host."""

    def tensor_size_in_bytes(self) -> int:
        """Its size."""


@dataclass(frozen=True)
class KVCache:
    """Keys and values of `length` tokens by graph input name, for the lower and the upper decoder graph.

    Each tensor is [1, kv_heads, length, head_dim]. A continuation gets new tensors; these never change.
    """

    lower: dict[str, Tensor]
    upper: dict[str, Tensor]
    length: int

    @property
    def nbytes(self) -> int:
        """Bytes held by all tensors."""
        tensors = (*self.lower.values(), *self.upper.values())
        return sum(tensor.tensor_size_in_bytes() for tensor in tensors)
