"""The heatmap kernel where programs really run at once: results are always the same, on any stream and card.

What it computes is held to the definition by tests/kernels, which runs on a GPU where there is one.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.kernels.operator_cases import RATIOS, rows_for, whole_picture
from tests_gpu.conftest import Place
from vicrop_kernels import numpy_operator
from vicrop_kernels.arguments import Arguments, Mode, Tiles
from vicrop_kernels.numpy_search import find_box
from vicrop_kernels.triton_operator import HeatmapOperator, locate

pytestmark = pytest.mark.gpu
LAYERS, HEADS = 2, 3


def batch(place: Place, side: int, pictures: int, mode: Mode, tiles: Tiles) -> Arguments:
    """Pictures of different sizes, of which a rehearsal has fewer and smaller ones."""
    if place.rehearsed:
        side, pictures = min(side, 9), min(pictures, 2)
    size = Arguments(side, side, (whole_picture(1, 1, (1, 1)),), 1, (1.0,), tiles=tiles)
    sizes = [(900 + 37 * number, 1400 - 11 * number) for number in range(pictures)]
    row = tuple(whole_picture(size.map_rows, size.map_cols, each) for each in sizes)
    return Arguments(side, side, row, 336, RATIOS, mode, tiles=tiles)


def rows_on(place: Place, arguments: Arguments, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (arguments.num_maps, LAYERS, HEADS, arguments.patches)
    first, second = rows_for(np.random.default_rng(seed), arguments.mode, shape)
    return first.to(place.device), second.to(place.device)


def test_the_kernel_is_compiled_and_not_interpreted(place: Place) -> None:
    import triton

    assert bool(triton.knobs.runtime.interpret) is place.rehearsed
    arguments = batch(place, 24, 1, "relative", Tiles())
    heatmap, window = locate(*rows_on(place, arguments, 0), arguments)
    assert {heatmap.device, window.device} == {place.device}


@pytest.mark.parametrize("tiles", [Tiles(), Tiles(2, 3, None, True)], ids=["whole", "tiles"])
@pytest.mark.parametrize("mode", ["relative", "gradient"])
@pytest.mark.parametrize("side", [24, 48])
def test_programs_that_race_give_one_result(place: Place, side: int, mode: Mode, tiles: Tiles) -> None:
    """The last of a picture's programs searches what all of them wrote; whichever it is."""
    arguments = batch(place, side, 64, mode, tiles)
    first, second = rows_on(place, arguments, side)
    operator = HeatmapOperator(arguments, LAYERS, place.device)
    once, boxes = operator(first, second)
    for _ in range(1 if place.rehearsed else 200):
        heatmap = torch.full_like(once, torch.nan)
        window = torch.full_like(boxes, -7)
        operator.launch_into(first, second, heatmap, window)
        assert torch.equal(heatmap, once)
        assert torch.equal(window, boxes)
    wanted, found = numpy_operator.locate(first.cpu().numpy(), second.cpu().numpy(), arguments)
    np.testing.assert_allclose(once.cpu().numpy(), wanted, rtol=2e-6, atol=2e-6 * float(wanted.max()))
    searched = [
        find_box(grid, arguments, at) for grid, at in zip(once.cpu().numpy(), arguments.pictures, strict=True)
    ]
    assert boxes.cpu().tolist() == [list(box) for box in searched], "of the kernel's own heatmaps"
    assert boxes.cpu().tolist() == found.tolist(), "of NumPy's heatmaps"


def test_rows_made_on_another_stream_are_waited_for(place: Place) -> None:
    arguments = batch(place, 48, 16, "relative", Tiles())
    first, second = rows_on(place, arguments, 3)
    wanted = locate(first, second, arguments)
    if place.rehearsed:
        heatmap, window = locate(first.clone(), second.clone(), arguments)
    else:
        stream = torch.cuda.Stream(place.device)
        stream.wait_stream(torch.cuda.current_stream(place.device))
        with torch.cuda.stream(stream):
            late = first.clone()
            for _ in range(50):
                late = late.neg()
            heatmap, window = locate(late, second, arguments)
        stream.synchronize()
    assert torch.equal(heatmap, wanted[0])
    assert torch.equal(window, wanted[1])


def test_rows_within_a_larger_tensor_are_read_where_they_lie(place: Place) -> None:
    """As the engine hands them over: some keys of one row of a graph's output."""
    arguments = batch(place, 24, 2, "relative", Tiles())
    first, second = rows_on(place, arguments, 5)
    shape = (*first.shape[:3], first.shape[3] + 40)
    around = [torch.full(shape, torch.nan, device=place.device) for _ in range(2)]
    for larger, rows in zip(around, (first, second), strict=True):
        larger[..., 7 : 7 + arguments.patches] = rows
    one, other = (larger[..., 7 : 7 + arguments.patches] for larger in around)
    for got, wanted in zip(locate(one, other, arguments), locate(first, second, arguments), strict=True):
        assert torch.equal(got, wanted)
