"""The file beside a graph that holds its weights, written one array after the other.

Knows bytes and offsets; nothing of what the arrays are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

ALIGNMENT = 4096  # so that each array can be mapped into memory by itself
SMALLEST = 1024  # bytes; what is smaller stays in the graph


class ExternalData:
    """Weights of the graph `path`, in `path`.data, which is there only if something was added.

    Raises OSError when they cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}.data")
        self._file = self._path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        empty = self._file.tell() == 0
        self._file.close()
        if empty:
            self._path.unlink()

    def add(self, name: str, array: NDArray[Any]) -> ir.TensorProtocol:
        """Append an array and return the tensor that refers to it; a small one is returned as it is."""
        return self.add_stacked([name], [array])[1][0]

    def add_stacked(
        self, names: Sequence[str], arrays: Sequence[NDArray[Any]]
    ) -> tuple[ir.TensorProtocol, list[ir.TensorProtocol]]:
        """Append arrays [n, …] that differ in n alone, with nothing between them.

        Returns the tensor of all of them, named as the first, and that of each; it is the same for one.
        """
        arrays = [np.asarray(array, order="C") for array in arrays]  # ascontiguousarray makes scalars lists
        if sum(array.nbytes for array in arrays) < SMALLEST:
            parts = [ir.tensor(array, name=name) for name, array in zip(names, arrays, strict=True)]
            return (parts[0] if len(parts) == 1 else ir.tensor(np.concatenate(arrays), name=names[0])), parts
        start = offset = -(-self._file.tell() // ALIGNMENT) * ALIGNMENT
        self._file.seek(start)
        tensors: list[ir.TensorProtocol] = []
        for name, array in zip(names, arrays, strict=True):
            tensors.append(self._tensor(name, offset, array.shape, array.dtype))
            offset += self._file.write(_packed(array).data)
        if len(tensors) == 1:
            return tensors[0], tensors
        shape = sum(len(array) for array in arrays), *arrays[0].shape[1:]
        return self._tensor(names[0], start, shape, arrays[0].dtype), tensors

    def _tensor(
        self, name: str, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> ir.ExternalTensor:
        kind = ir.DataType.from_numpy(dtype)
        return ir.ExternalTensor(
            self._path.name,
            offset,
            -(-math.prod(shape) * kind.bitwidth // 8),
            kind,
            shape=ir.Shape(shape),
            name=name,
            base_dir=self._path.parent,
        )


def _packed(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The array's bytes in the file: of numbers of a few bits, as many as fit into each."""
    if ir.DataType.from_numpy(array.dtype).bitwidth % 8 == 0:
        return array.reshape(-1).view(np.uint8)
    return np.frombuffer(ir.tensor(array).tobytes(), np.uint8)
