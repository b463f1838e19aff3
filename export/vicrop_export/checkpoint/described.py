"""Weights as descriptions: a shape and the name of a tensor in the checkpoint, which is not read.

Graphs are exported with descriptions, so that neither torch nor ONNX ever holds a whole model. Norms, biases
and embeddings of positions are small and stay real.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import torch
from torch import Tensor, nn

from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.ops.layers import Projection


class DescribedTensors(CheckpointTensors):
    """A checkpoint whose projections are described and whose other tensors are read."""

    def __init__(self, directory: Path, canonical_name: Callable[[str], str]) -> None:
        super().__init__(directory, canonical_name)
        self._numbers: Iterator[int] = count(1)

    def projection(self, prefix: str, *, biased: bool = False) -> Projection:
        """The linear layer stored under `prefix`, its weight described."""
        name = f"{prefix}.weight"
        return Projection(self._description(self.shape(name)), self.bias(prefix, biased=biased), source=name)

    def _description(self, shape: tuple[int, ...]) -> Tensor:
        """One number seen as a whole tensor; each its own, so that no pass takes two weights for one."""
        return torch.tensor(float(next(self._numbers))).expand(shape)


def sources(module: nn.Module) -> dict[str, str]:
    """The checkpoint's name of every described weight, by the name of the parameter."""
    return {
        f"{path}.weight": part.source
        for path, part in module.named_modules()
        if isinstance(part, Projection) and part.source is not None
    }
