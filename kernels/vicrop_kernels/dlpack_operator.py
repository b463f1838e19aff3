"""The heatmap operator on rows that lie in a runtime's tensors, on a processor or a GPU, taken by DLPack.

Nothing is copied between host and device but the heatmaps and boxes at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vicrop_kernels import numpy_operator
from vicrop_kernels.arguments import Arguments


class DeviceRow(NamedTuple):
    """One row [heads, patches] in `tensor` [layers, rows, heads, keys], which knows DLPack."""

    tensor: Any
    layer: int
    row: int
    columns: slice


Maps = Sequence[Sequence[DeviceRow]]


def locate(
    first: Maps, second: Maps, arguments: Arguments, *, on_gpu: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """`numpy_operator.locate`, or with `on_gpu` Triton's, of rows by map and layer; results on the host.

    Raises ImportError when PyTorch or Triton is wanted and missing.
    """
    if not on_gpu:
        one, other = (gathered(maps, np.from_dlpack, np.stack) for maps in (first, second))
        return numpy_operator.locate(one, other, arguments)
    import torch
    from torch.utils.dlpack import from_dlpack

    from vicrop_kernels import triton_operator

    one, other = (gathered(maps, from_dlpack, torch.stack) for maps in (first, second))
    with torch.cuda.device(one.device if one.is_cuda else -1):
        heatmaps, boxes = triton_operator.locate(one, other, arguments)
    return heatmaps.cpu().numpy(), boxes.cpu().numpy()


def gathered(maps: Maps, load: Callable[[Any], Any], stack: Callable[[Any], Any]) -> Any:
    """[maps, layers, heads, patches]: seen where they lie, or put together where they lie apart."""
    parts = [_layers(rows, load, stack) for rows in maps]
    return parts[0][None] if len(parts) == 1 else stack(parts)


def _layers(rows: Sequence[DeviceRow], load: Callable[[Any], Any], stack: Callable[[Any], Any]) -> Any:
    """[layers, heads, patches] of one map."""
    first = rows[0]
    together = all(
        (row.tensor, row.layer, row.row) == (first.tensor, first.layer + index, first.row)
        for index, row in enumerate(rows)
    )
    if together:
        return load(first.tensor)[first.layer : first.layer + len(rows), first.row, :, first.columns]
    return stack([load(row.tensor)[row.layer, row.row, :, row.columns] for row in rows])
