"""Tensors on a device: put there, counted when they come back, handed to the heatmap operator where they lie.

The device is a GPU, or a processor standing in for one, which runs the same code. There are two ways out:
`Device.host`, and what the heatmap operator finds. Knows nothing of graphs or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vicrop_engine.arrays import Ints
from vicrop_engine.counters import Tally
from vicrop_kernels.arguments import Arguments
from vicrop_kernels.dlpack_operator import DeviceRow, locate

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DeviceTensor:
    """A tensor of the runtime's that stays where it is."""

    value: Any = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its axes."""
        return tuple(self.value.shape())

    @property
    def num_rows(self) -> int:
        """Rows of [pictures, rows, hidden], all pictures' together."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes it takes on the device."""
        return int(self.value.tensor_size_in_bytes())

    @property
    def address(self) -> int:
        """Where it begins in the device's memory."""
        return int(self.value.data_ptr())

    def tensor_size_in_bytes(self) -> int:
        """`nbytes`, as the runtime's tensors call it."""
        return self.nbytes


@dataclass(frozen=True)
class Device:
    """A place for tensors: `kind` is "cuda", or "cpu" for a processor in its stead; `index` counts from 0.

    `tensors` is the runtime's class of them.
    """

    kind: str
    index: int
    tensors: Any = field(repr=False)
    tally: Tally = field(repr=False)

    def upload(self, array: Array) -> DeviceTensor:
        """A copy of the array on the device."""
        value = self.tensors.ortvalue_from_numpy(np.ascontiguousarray(array), self.kind, self.index)
        self.tally.add(uploads=1)
        return DeviceTensor(value)

    def host(self, tensor: DeviceTensor) -> Array:
        """The tensor's values on the host; counted."""
        self.tally.add(host_copies=1, host_bytes=tensor.nbytes)
        values: Array = tensor.value.numpy()
        return values

    def locate(
        self,
        first: Sequence[Sequence[AttentionRow]],
        second: Sequence[Sequence[AttentionRow]],
        told: Arguments,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """Heatmaps [batch, rows, cols] and crop boxes [batch, 4], all that comes back of the rows; counted.

        `first` and `second` are rows by map and layer.
        """
        one, other = ([[row.on_device for row in layers] for layers in maps] for maps in (first, second))
        heatmaps, boxes = locate(one, other, told, on_gpu=self.kind == "cuda")
        self.tally.add(host_copies=2, host_bytes=heatmaps.nbytes + boxes.nbytes)
        return heatmaps, boxes


@dataclass(frozen=True)
class AttentionRow:
    """One token's attention [heads, keys] in one layer of a tensor [layers, rows, heads, keys].

    Made into an array, it is copied to the host.
    """

    device: Device
    tensor: DeviceTensor
    layer: int
    row: int
    columns: slice | Ints = field(default_factory=lambda: slice(None))

    def __getitem__(self, place: tuple[slice, slice | Ints]) -> AttentionRow:
        """The same with some of its keys: all heads, then the keys."""
        return replace(self, columns=place[1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self.device.host(self.tensor)[self.layer, self.row][:, self.columns], dtype)

    def copy(self) -> AttentionRow:
        """Itself: nothing writes over a graph's results."""
        return self

    @property
    def nbytes(self) -> int:
        """Its share of the bytes of the tensor, which lives as long as its rows."""
        return self.tensor.nbytes // (self.tensor.shape[0] * self.tensor.shape[1])

    @property
    def on_device(self) -> DeviceRow:
        """As the heatmap operator takes it, by DLPack. Raises ValueError unless its keys are a stretch."""
        if not isinstance(self.columns, slice):
            raise ValueError("the operator takes keys that follow each other; copy the row to the host")
        return DeviceRow(self.tensor.value._ortvalue, self.layer, self.row, self.columns)
