"""Implementations of the heatmap operator on one footing, seeded cases for them, and plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from vicrop_kernels import definition, numpy_operator, triton_operator
from vicrop_kernels.arguments import Arguments, Cells, Mode, PictureGrid, Tiles
from vicrop_kernels.placement import Box

Floats = npt.NDArray[np.float32]
Located = tuple[Floats, list[Box]]
Operator = Callable[[torch.Tensor, torch.Tensor, Arguments], Located]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
RATIOS = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
SIZES = {1: (1, 1), 63: (7, 9), 576: (24, 24), 577: (577, 1), 2304: (48, 48)}
TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
MODES: tuple[Mode, ...] = ("relative", "gradient")


def by_numpy(first: torch.Tensor, second: torch.Tensor, arguments: Arguments) -> Located:
    heatmap, window = numpy_operator.locate(first.numpy(), second.numpy(), arguments)
    assert (heatmap.dtype, window.dtype) == (np.float32, np.int32)
    return heatmap, boxes(window)


def by_triton(first: torch.Tensor, second: torch.Tensor, arguments: Arguments) -> Located:
    heatmap, window = triton_operator.locate(first.to(DEVICE), second.to(DEVICE), arguments)
    assert (heatmap.dtype, window.dtype) == (torch.float32, torch.int32)
    return heatmap.cpu().numpy(), boxes(window.cpu().numpy())


OPERATORS: dict[str, Operator] = {"numpy": by_numpy, "triton": by_triton}
TYPED = [(name, kind) for name in OPERATORS for kind in TYPES if (name, kind) != ("numpy", "bfloat16")]


def by_definition(first: torch.Tensor, second: torch.Tensor, arguments: Arguments) -> Located:
    """The heatmaps in float64, and the boxes."""
    located = definition.locate(first.tolist(), second.tolist(), arguments)
    return np.array([grid for grid, _ in located]), [box for _, box in located]


def boxes(window: npt.NDArray[np.int32]) -> list[Box]:
    assert window.shape[1:] == (4,)
    return [(int(x0), int(y0), int(x1), int(y1)) for x0, y0, x1, y1 in window]


def attention(random: np.random.Generator, shape: tuple[int, ...], kind: str = "float32") -> torch.Tensor:
    """Rows that, like softmax rows over a longer prompt, sum to less than one."""
    values = np.exp(2 * random.standard_normal(shape))
    return torch.from_numpy(values / (1.1 * values.sum(axis=-1, keepdims=True))).to(TYPES[kind])


def rows_for(
    random: np.random.Generator, mode: Mode, shape: tuple[int, ...], kind: str = "float32"
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the operator takes in this mode."""
    first = attention(random, shape, kind)
    if mode == "relative":
        return first, attention(random, shape, kind)
    return first, torch.from_numpy(random.standard_normal(shape)).to(TYPES[kind])


def in_torch(first: torch.Tensor, second: torch.Tensor, mode: Mode) -> torch.Tensor:
    """The heatmap of one map as it is plainly written in PyTorch, in the rows' own type: [maps, patches]."""
    if mode == "relative":
        return (first.mean(2) / second.mean(2).clamp_min(definition.FLOOR)).mean(1)
    return (first * second.clamp_min(0)).mean(2).mean(1)


def whole_picture(rows: int, cols: int, size: tuple[int, int]) -> PictureGrid:
    return PictureGrid(size, 0.0, 0.0, size[0] / cols, size[1] / rows)


def random_picture(random: np.random.Generator, rows: int, cols: int, *, padded: bool) -> PictureGrid:
    """A picture of any shape, whose grid lies beyond it where it is `padded`."""
    width, height = (int(side) for side in np.exp(random.uniform(np.log(100), np.log(3000), 2)))
    if not padded:
        return whole_picture(rows, cols, (width, height))
    first_row, first_col = int(random.integers(rows)), int(random.integers(cols))
    last_row = int(random.integers(first_row + 1, rows + 1))
    last_col = int(random.integers(first_col + 1, cols + 1))
    cell_width, cell_height = width / (last_col - first_col), height / (last_row - first_row)
    left = -cell_width * (first_col + 0.4 * random.random())
    top = -cell_height * (first_row + 0.4 * random.random())
    inside = Cells(first_row, last_row, first_col, last_col)
    return PictureGrid((width, height), left, top, cell_width, cell_height, inside)


def random_arguments(random: np.random.Generator, batch: int, layers: int) -> Arguments:
    """A batch of pictures that are read alike, now and then in tiles.

    Windows are then smaller than a tile: whole tiles over their means sum to the same but for rounding, which
    differs between implementations.
    """
    rows, cols = (int(side) for side in random.integers(3, 10, 2))
    mode = MODES[int(random.integers(2))]
    share = random.random(layers)
    weights = tuple(float(value) for value in share / share.sum()) if random.random() < 0.5 else None
    tiles = Tiles()
    if random.random() < 0.1:
        kept = Cells(0, rows, 0, cols) if random.random() < 0.5 else Cells(1, rows, 0, cols - 1)
        down, across = [(1, 2), (2, 1), (2, 2)][int(random.integers(3))]
        tiles = Tiles(down, across, kept, bool(random.random() < 0.7))
    shape = Arguments(rows, cols, (whole_picture(rows, cols, (1, 1)),), 1, (1.0,), tiles=tiles)
    padded = bool(random.random() < 0.4)
    pictures = [random_picture(random, shape.map_rows, shape.map_cols, padded=padded) for _ in range(batch)]
    window = 20 if tiles.over_mean else int(random.choice([20, 60, 150, 336]))
    return Arguments(rows, cols, tuple(pictures), window, RATIOS[:4], mode, weights, tiles)


def random_rows(
    random: np.random.Generator, arguments: Arguments, layers: int, heads: int, kind: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of these arguments, half of them full of ties."""
    shape = (arguments.num_maps, layers, heads, arguments.rows, arguments.cols)
    first, second = rows_for(random, arguments.mode, (*shape[:3], arguments.patches), kind)
    first, second = first.reshape(shape), second.reshape(shape)
    tie = random.choice(["", "", "", "constant", "few", "columns", "mirrored"])
    for values in (first, second) if tie else ():
        if tie == "constant":
            values.copy_(values[..., :1, :1].expand(shape).clone())
        elif tie == "few":
            values.copy_(torch.from_numpy(random.integers(0, 3, shape) / 4))
        elif tie == "columns":
            values.copy_(values[..., :1].expand(shape).clone())
        else:
            values.copy_(torch.maximum(values, values.flip(-1)))
    return first.reshape(*shape[:3], -1), second.reshape(*shape[:3], -1)
