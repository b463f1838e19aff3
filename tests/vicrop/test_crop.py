"""The crop box: against a cell-by-cell search, and where the published code goes wrong."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vicrop_engine.images.geometry import Grid, Placement, placed_grid, whole_grid
from vicrop_engine.vicrop.crop import find_box, fits_window, outside_zeroed, picture_grid
from vicrop_kernels import numpy_search
from vicrop_kernels.arguments import Arguments

RATIOS = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
Floats = npt.NDArray[np.float32]


def whole_box(heatmap: Floats, size: tuple[int, int], window: int) -> tuple[int, int, int, int]:
    return find_box(heatmap, whole_grid(*heatmap.shape, size), size, window, RATIOS)


def plain_search(heatmap: Floats, size: tuple[int, int], window: int) -> tuple[int, int, int, int]:
    """The published search written as two loops over every window; at least one cell a side."""
    rows, cols = heatmap.shape
    cell = size[0] / cols, size[1] / rows
    tried = []
    for ratio in RATIOS:
        w = max(1, min(int(window * ratio / cell[0]), cols))
        h = max(1, min(int(window * ratio / cell[1]), rows))
        if (w, h) == (cols, rows):
            break
        sums = {}
        for x in range(cols - w + 1):
            for y in range(rows - h + 1):
                sums[x, y] = heatmap[y : y + h, x : x + w].sum()
        x, y = max(sums, key=lambda place: sums[place])
        beside = [float(sums[p]) for p in ((x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)) if p in sums]
        tried.append(((float(sums[x, y]) - np.mean(beside)) / (w * h), window * ratio, x, y, w, h))
    if not tried:
        return 0, 0, *size
    _, side, x, y, w, h = max(tried, key=lambda score: score[0])
    ends = []
    for centre, length in (
        (int(x * cell[0] + cell[0] * w / 2), size[0]),
        (int(y * cell[1] + cell[1] * h / 2), size[1]),
    ):
        pushed = min(max(centre, side // 2), length - side // 2)
        ends.append((int(max(0, pushed - side // 2)), int(min(length, pushed + side // 2))))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([8, 12, 16, 24]), st.sampled_from([100, 168, 224, 336]))
def test_boxes_equal_the_plain_search(seed: int, side: int, window: int) -> None:
    random = np.random.default_rng(seed)
    size = tuple(int(edge) for edge in np.exp(random.uniform(np.log(2), np.log(9000), 2)))
    heatmap = (random.random((side, side)) ** random.choice([1, 9])).astype(np.float32)
    if random.random() < 0.3:
        heatmap = np.rint(2 * heatmap)
    box = whole_box(heatmap, size, window)
    assert box == plain_search(heatmap, size, window)
    assert_inside(box, size)


@pytest.mark.parametrize("seed", range(5))
def test_the_operator_s_search_finds_the_same_boxes(seed: int) -> None:
    """On maps whose windows do not tie but for rounding, of grids that lie within and beyond the picture."""
    random = np.random.default_rng(seed)
    for _ in range(60):
        size = tuple(int(edge) for edge in np.exp(random.uniform(np.log(200), np.log(4000), 2)))
        scale = 336 / max(size)
        width, height = size[0] * scale, size[1] * scale
        placement = Placement((336 - width) / 2, (336 - height) / 2, width, height)
        grid = placed_grid(24, 24, 14, placement, size)
        heatmap = np.exp(random.standard_normal((24, 24))).astype(np.float32)
        arguments = Arguments(24, 24, (picture_grid(grid, size),), 168, RATIOS)
        found = numpy_search.find_box(heatmap, arguments, arguments.pictures[0])
        assert found == find_box(heatmap, grid, size, 168, RATIOS)


def assert_inside(box: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    assert all(type(edge) is int for edge in box)
    assert 0 <= box[0] < box[2] <= size[0]
    assert 0 <= box[1] < box[3] <= size[1]


@pytest.mark.parametrize(
    ("window", "sides"), [(336, (336, 402, 470, 536, 604, 672)), (224, (224, 268, 312, 358, 402, 448))]
)
def test_the_sides_are_the_published_ones(window: int, sides: tuple[int, ...]) -> None:
    size, heatmap = (2400, 2400), np.zeros((24, 24), np.float32)
    heatmap[12, 12] = 1.0
    grid = whole_grid(24, 24, size)
    for ratio, side in zip(RATIOS, sides, strict=True):
        box = find_box(heatmap, grid, size, window, [ratio])
        assert (box[2] - box[0], box[3] - box[1]) == (side, side)


@pytest.mark.parametrize("size", [(336, 336), (40, 30), (335, 12)])
def test_pictures_within_one_window_are_their_own_crop(size: tuple[int, int]) -> None:
    assert fits_window(size, 336)
    random = np.random.default_rng(1).random((24, 24)).astype(np.float32)
    assert whole_box(random, size, 336) == (0, 0, *size)


def test_windows_smaller_than_a_cell_hold_one_cell() -> None:
    """The published code divides by zero cells here and jumps to the top left corner."""
    heatmap = np.ones((24, 24), np.float32)
    heatmap[20, 5] = 9.0
    x0, y0, x1, y1 = whole_box(heatmap, (9000, 9000), 336)
    assert x0 <= 5.5 * 375 <= x1
    assert y0 <= 20.5 * 375 <= y1


def test_a_padded_grid_is_mapped_back_and_padding_never_wins() -> None:
    """A 600 x 200 picture on 168 x 56 of a 168 px square: rows 4 to 7 of 12 touch it."""
    placement = Placement(left=0, top=56, width=168, height=56)
    grid = placed_grid(12, 12, 14, placement, (600, 200))
    assert (grid.first_row, grid.last_row, grid.first_col, grid.last_col) == (4, 8, 0, 12)
    assert grid.box == pytest.approx((0, -200, 600, 400))
    heatmap = np.ones((12, 12), np.float32)
    heatmap[:4] = heatmap[8:] = 1000.0
    heatmap[5, 9] = 5.0
    box = find_box(heatmap, grid, (600, 200), 100, RATIOS)
    assert box[0] <= 9.5 * 50 <= box[2]
    assert box[1] <= (5.5 - 4) * 50 <= box[3]
    assert_inside(box, (600, 200))
    zeroed = outside_zeroed(heatmap, grid)
    assert zeroed.sum() == heatmap[4:8].sum()
    np.testing.assert_array_equal(zeroed[4:8], heatmap[4:8])


def test_a_centre_cropped_grid_covers_the_middle_alone() -> None:
    """1920 x 1080 resized to 597 x 336 and cut; the published code is off by 402 px at the edge."""
    placement = Placement(left=-130, top=0, width=597, height=336)
    grid = placed_grid(24, 24, 14, placement, (1920, 1080))
    assert grid.left == pytest.approx(418, abs=1)
    assert grid.box[2] == pytest.approx(1920 - 421, abs=1)
    assert grid.cell_width == pytest.approx(45, abs=0.1)
    heatmap = np.ones((24, 24), np.float32)
    heatmap[10, 0] = 40.0
    x0, _, x1, _ = find_box(heatmap, grid, (1920, 1080), 336, RATIOS)
    assert x0 <= grid.left + 22 <= x1


def test_a_stretched_grid_is_the_whole_grid() -> None:
    """Both ways to one grid give the same floats, so that compat and default agree where nothing was cut."""
    for size in [(641, 479), (1001, 77), (168, 168)]:
        assert placed_grid(12, 12, 14, Placement(0, 0, 168, 168), size) == whole_grid(12, 12, size)


@pytest.mark.parametrize("placement", [Placement(0, 83, 168, 1), Placement(83, 0, 1, 168)])
def test_a_sliver_of_a_picture_still_touches_a_cell(placement: Placement) -> None:
    grid: Grid = placed_grid(12, 12, 14, placement, (3000, 2) if placement.height == 1 else (2, 3000))
    assert grid.last_row > grid.first_row
    assert grid.last_col > grid.first_col
    size = (3000, 2) if placement.height == 1 else (2, 3000)
    assert_inside(find_box(np.ones((12, 12), np.float32), grid, size, 168, RATIOS), size)
