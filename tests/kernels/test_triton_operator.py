"""What only the Triton operator has: buffers to write into, scratch that is used again, one launch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.kernels.operator_cases import DEVICE, RATIOS, rows_for, whole_picture
from vicrop_kernels.arguments import Arguments, Cells, PictureGrid, Tiles
from vicrop_kernels.launch import num_programs
from vicrop_kernels.triton_operator import HeatmapOperator, locate

PADDED = PictureGrid((400, 300), -50.0, 0.0, 50.0, 60.0, Cells(0, 5, 1, 9))


ONE_TILE = Tiles()


def case(tiles: Tiles = ONE_TILE) -> tuple[Arguments, torch.Tensor, torch.Tensor]:
    size = Arguments(5, 10, (whole_picture(1, 1, (1, 1)),), 1, (1.0,), tiles=tiles)
    pictures = (whole_picture(size.map_rows, size.map_cols, (1000, 500)), PADDED)
    arguments = Arguments(5, 10, pictures, 80, RATIOS, tiles=tiles)
    first, second = rows_for(np.random.default_rng(1), "relative", (arguments.num_maps, 2, 3, 50))
    return arguments, first.to(DEVICE), second.to(DEVICE)


@pytest.mark.parametrize("tiles", [ONE_TILE, Tiles(2, 1, None, True)])
def test_every_element_is_written_and_none_beside(tiles: Tiles) -> None:
    arguments, first, second = case(tiles)
    rows, cols = arguments.map_rows, arguments.map_cols
    heatmaps = torch.full((4, rows, cols), torch.nan, device=DEVICE)
    windows = torch.full((4, 4), -7, dtype=torch.int32, device=DEVICE)
    operator = HeatmapOperator(arguments, 2, DEVICE)
    operator.launch_into(first, second, heatmaps[1:3], windows[1:3])
    assert torch.isfinite(heatmaps[1:3]).all()
    assert torch.isnan(heatmaps[[0, 3]]).all()
    assert (windows[[0, 3]] == -7).all()
    again, boxes = locate(first, second, arguments)
    assert torch.equal(heatmaps[1:3], again)
    assert torch.equal(windows[1:3], boxes)


def test_an_operator_can_be_used_again() -> None:
    arguments, first, second = case()
    operator = HeatmapOperator(arguments, 2, DEVICE)
    once, again, other = operator(first, second), operator(first, second), operator(second, first)
    assert torch.equal(once[0], again[0])
    assert torch.equal(once[1], again[1])
    assert not torch.equal(once[0], other[0])


def test_a_batch_is_one_launch_of_a_program_for_64_patches_of_a_map() -> None:
    assert num_programs(case(Tiles(2, 3))[0]) == 2 * 6 * 1
    arguments = Arguments(24, 24, (whole_picture(24, 24, (900, 900)),), 336, RATIOS)
    assert num_programs(arguments) == 9


def test_rows_of_another_type_device_or_number_of_layers_are_refused() -> None:
    arguments, first, second = case()
    with pytest.raises(ValueError, match=r"float64, wanted one of"):
        locate(first.double(), second.double(), arguments)
    with pytest.raises(ValueError, match="of 2 layers, wanted the 3"):
        HeatmapOperator(arguments, 3, DEVICE)(first, second)
    with pytest.raises(ValueError, match="wanted them on meta"):
        HeatmapOperator(arguments, 2, torch.device("meta"))(first, second)
