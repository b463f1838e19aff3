"""The heatmap operator as it is plainly written in PyTorch, without a kernel of its own, and what that moves.

    python benchmarks/heatmap_in_torch.py

counts launches and bytes of every operator for LLaVA-1.5's shapes, rows in float16: of an operator that is
not a view what it reads and what it writes.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils._python_dispatch import TorchDispatchMode

from vicrop_kernels.arguments import Arguments, PictureGrid
from vicrop_kernels.definition import FLOOR, UNIT_BITS
from vicrop_kernels.placement import window_sizes


def locate(
    first: torch.Tensor, second: torch.Tensor, arguments: Arguments
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `numpy_operator.locate`, for whole pictures of one size in mode "relative" with equal weights."""
    heatmap = relative(first, second).reshape(-1, arguments.rows, arguments.cols)
    picture = arguments.pictures[0]
    table = _table(heatmap)
    rows, cols, scores, sizes = [], [], [], []
    for size in window_sizes(picture, arguments.inside(picture), arguments.window, arguments.ratios):
        row, col, score = _largest(table, size.height, size.width)
        rows.append(row)
        cols.append(col)
        scores.append(score)
        sizes.append((size.height, size.width, size.half))
    best = torch.stack(scores).argmax(0)
    row, col = (torch.stack(places).gather(0, best[None])[0] for places in (rows, cols))
    height, width, half = torch.tensor(sizes, device=first.device)[best].unbind(-1)
    x0, x1 = _span(picture.left, picture.cell_width, col, width, half, picture.size[0])
    y0, y1 = _span(picture.top, picture.cell_height, row, height, half, picture.size[1])
    return heatmap, torch.stack([x0, y0, x1, y1], 1).to(torch.int32)


def relative(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Relative attention with equal layer weights: [batch, patches]."""
    asked, usual = first.mean(2, dtype=torch.float32), second.mean(2, dtype=torch.float32)
    return (asked / usual.clamp_min(FLOOR)).mean(1)


def _table(heatmap: torch.Tensor) -> torch.Tensor:
    """Sums in whole units by column, then row: [batch, cols + 1, rows + 1]."""
    exponent = torch.frexp(heatmap.amax((1, 2), keepdim=True)).exponent
    units = torch.ldexp(heatmap.double(), UNIT_BITS - exponent).long()
    return torch.nn.functional.pad(units.transpose(1, 2).cumsum(1).cumsum(2), (1, 0, 1, 0))


def _largest(table: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Row, column and score of the first largest window of every picture."""
    strips = table[:, width:] - table[:, :-width]
    sums = strips[:, :, height:] - strips[:, :, :-height]
    cols, rows = sums.shape[1:]
    top, place = sums.flatten(1).max(1)
    row, col = place % rows, place // rows
    step = torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1]], device=table.device)
    x, y = col[:, None] + step[:, 0], row[:, None] + step[:, 1]
    there = (x >= 0) & (x < cols) & (y >= 0) & (y < rows)
    beside = sums.flatten(1).gather(1, torch.where(there, x * rows + y, 0))
    number = there.sum(1)
    above = number * top - torch.where(there, beside, 0).sum(1)
    return row, col, above.double() / (number * height * width).double()


def _span(
    start: float, cell: float, place: torch.Tensor, cells: torch.Tensor, half: torch.Tensor, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    centre = (start + (place.double() * cell + cells.double() * cell / 2)).long()
    centre = torch.minimum(torch.maximum(centre, half), length - half)
    return (centre - half).clamp_min(0), (centre + half).clamp_max(length)


class Moved(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts calls and bytes by operator, views aside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operator and counts it."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            leaves, _ = torch.utils._pytree.tree_flatten((args, kwargs, result))
            tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
            self.calls[func.__name__] += 1
            self.bytes[func.__name__] += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


def main() -> None:
    """Print what one picture moves, for one layer and for twenty."""
    side, size = 24, (2000, 1500)
    lies = PictureGrid(size, 0.0, 0.0, size[0] / side, size[1] / side)
    arguments = Arguments(side, side, (lies,), 336, (1.0, 1.2, 1.4, 1.6, 1.8, 2.0))
    for layers in (1, 20):
        rows = torch.full((2, 1, layers, 32, side * side), 1e-3, dtype=torch.float16)
        with Moved() as moved:
            locate(rows[0], rows[1], arguments)
        calls, total = sum(moved.calls.values()), sum(moved.bytes.values())
        table = Table(
            "operator", "launches", "bytes", title=f"{layers} layers: {calls} launches, {total} bytes"
        )
        for name, number in moved.bytes.most_common():
            table.add_row(name, str(moved.calls[name]), str(number))
        Console().print(table)


if __name__ == "__main__":
    main()
