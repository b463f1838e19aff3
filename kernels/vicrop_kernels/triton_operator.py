"""The heatmap operator on a GPU: device rows in, device heatmaps and crop boxes out, in one launch.

Not yet run on a GPU; held to `definition.locate` under Triton's interpreter, which takes processor tensors
where TRITON_INTERPRET=1 was set before Triton was imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import triton

from vicrop_kernels import triton_kernel
from vicrop_kernels.arguments import Arguments
from vicrop_kernels.launch import OPTIONS, constants, corners, facts, num_programs

TYPES = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class HeatmapOperator:
    """The operator for one set of `arguments`; what it needs beside the rows is on `device` from the start.

    It has scratch of its own: one call at a time, on one stream.
    """

    arguments: Arguments
    layers: int
    device: torch.device

    def __call__(self, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Heatmaps, float32 [batch, rows, cols], and crop boxes x0, y0, x1, y1 in pixels, int32 [batch, 4].

        `first` and `second` are rows [maps, layers, heads, patches] of one of TYPES on the device, however
        they lie in memory; see `numpy_operator.locate`. Raises ValueError on rows that do not agree.
        """
        arguments = self.arguments
        self._check(first, second)
        batch = len(arguments.pictures)
        heatmap = torch.empty(batch, arguments.map_rows, arguments.map_cols, device=self.device)
        window = torch.empty(batch, 4, dtype=torch.int32, device=self.device)
        self.launch_into(first, second, heatmap, window)
        return heatmap, window

    def launch_into(
        self, first: torch.Tensor, second: torch.Tensor, heatmap: torch.Tensor, window: torch.Tensor
    ) -> None:
        """The one launch; every element of `heatmap` and `window`, contiguous, is written."""
        arguments, kept, tiles = self.arguments, self.arguments.kept, self.arguments.tiles
        triton_kernel.locate[(num_programs(arguments),)](
            *(first, second, self._weights, self._corners, self._facts),
            *(heatmap, window, self._table, self._arrivals),
            *(self._facts.stride(0), *first.stride(), *second.stride(), *first.shape[1:3]),
            *(arguments.rows, arguments.cols, kept.first_row, kept.first_col, kept.rows, kept.cols),
            *(tiles.rows, tiles.cols, int(tiles.over_mean)),
            **constants(arguments.mode, len(arguments.ratios)),
            **OPTIONS,
        )

    def _check(self, first: torch.Tensor, second: torch.Tensor) -> None:
        self.arguments.check_rows(tuple(first.shape), tuple(second.shape))
        if first.shape[1] != self.layers:
            raise ValueError(f"got rows of {first.shape[1]} layers, wanted the {self.layers} it was made for")
        for rows in (first, second):
            if rows.dtype not in TYPES:
                raise ValueError(f"got rows of {rows.dtype}, wanted one of {TYPES}")
            if rows.device != self.device:
                raise ValueError(f"got rows on {rows.device}, wanted them on {self.device}")
        if self.device.type == "cpu" and isinstance(triton_kernel.locate, triton.JITFunction):
            raise ValueError("got rows on the processor, wanted them on a GPU; use numpy_operator.locate")

    @cached_property
    def _weights(self) -> torch.Tensor:
        weights = self.arguments.weights or (1.0 / self.layers,) * self.layers
        return torch.tensor(weights, dtype=torch.float32, device=self.device)

    @cached_property
    def _corners(self) -> torch.Tensor:
        return torch.tensor(corners(self.arguments), dtype=torch.float64, device=self.device)

    @cached_property
    def _facts(self) -> torch.Tensor:
        return torch.tensor(facts(self.arguments), dtype=torch.int32, device=self.device)

    @cached_property
    def _table(self) -> torch.Tensor:
        cells = self.arguments.map_rows * self.arguments.map_cols
        return torch.empty(len(self.arguments.pictures), cells, dtype=torch.int64, device=self.device)

    @cached_property
    def _arrivals(self) -> torch.Tensor:
        return torch.zeros(len(self.arguments.pictures), dtype=torch.int32, device=self.device)


def locate(
    first: torch.Tensor, second: torch.Tensor, arguments: Arguments
) -> tuple[torch.Tensor, torch.Tensor]:
    """`HeatmapOperator` for a single call, on the rows' own device."""
    arguments.check_rows(tuple(first.shape), tuple(second.shape))
    return HeatmapOperator(arguments, first.shape[1], first.device)(first, second)
