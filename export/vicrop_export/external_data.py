"""The file beside a graph that holds its weights, written one array after the other.

Knows bytes and offsets; nothing of what the arrays are.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

ALIGNMENT = 4096  # so that each array can be mapped into memory by itself
SMALLEST = 1024  # bytes; what is smaller stays in the graph


class ExternalData:
    """Weights of the graph `path`, in `path`.data. Raises OSError when they cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}.data")
        self._file = self._path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, name: str, array: NDArray[Any]) -> ir.TensorProtocol:
        """Append an array and return the tensor that refers to it; a small one is returned as it is."""
        array = np.asarray(array, order="C")  # ascontiguousarray would turn a scalar into a list
        if array.nbytes < SMALLEST:
            return ir.tensor(array, name=name)
        kind = ir.DataType.from_numpy(array.dtype)
        packed = array if kind.bitwidth % 8 == 0 else np.frombuffer(ir.tensor(array).tobytes(), np.uint8)
        offset = -(-self._file.tell() // ALIGNMENT) * ALIGNMENT
        self._file.seek(offset)
        self._file.write(packed.reshape(-1).view(np.uint8).data)
        return ir.ExternalTensor(
            self._path.name,
            offset,
            packed.nbytes,
            kind,
            shape=ir.Shape(array.shape),
            name=name,
            base_dir=self._path.parent,
        )
