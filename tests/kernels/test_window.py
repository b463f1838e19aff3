"""The NumPy window search: against its definition, and against cell-by-cell sums."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vicrop_kernels import definition
from vicrop_kernels.definition import BestWindow
from vicrop_kernels.numpy_window import best_window

Values = npt.NDArray[np.floating]


def windows_of(rows: int, cols: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """Up to six seeded window sizes, none of them the whole grid."""
    sizes = [(int(random.integers(1, rows + 1)), int(random.integers(1, cols + 1))) for _ in range(6)]
    return [size for size in sizes if size != (rows, cols)] or [(1, 1)]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 13), st.integers(2, 13), st.integers(0, 3))
def test_equals_the_definition_where_sums_are_exact(seed: int, rows: int, cols: int, top: int) -> None:
    """Small whole numbers add up exactly in any order, so ties (many of them) must go the same way."""
    random = np.random.default_rng(seed)
    grid = random.integers(0, top + 1, (rows, cols)).astype(np.float32)
    windows = windows_of(rows, cols, random)
    assert best_window(grid, windows) == definition.best_window(grid.tolist(), windows)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["random", "constant", "sparse", "mirrored", "peaked"]))
def test_equals_cell_by_cell_sums_in_the_grid_s_own_type(seed: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    rows, cols = (int(size) for size in random.choice([2, 5, 12, 24], 2))
    grid = seeded_grid(kind, rows, cols, random)
    windows = windows_of(rows, cols, random)
    assert best_window(grid, windows) == cell_by_cell(grid, windows)


SEEDS, GRIDS_PER_SEED = 20, 500
KINDS = ("random", "constant", "sparse", "mirrored", "peaked", "whole numbers", "two equal peaks")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_equals_a_double_loop_on_ten_thousand_maps(seed: int) -> None:
    """Every window of every size summed by itself and compared one by one, ties and constants among them."""
    assert SEEDS * GRIDS_PER_SEED == 10_000
    random = np.random.default_rng([7, seed])
    for number in range(GRIDS_PER_SEED):
        rows, cols = (int(size) for size in random.integers(2, 9, 2))
        kind = KINDS[number % len(KINDS)]
        grid = seeded_grid(kind, rows, cols, random)
        windows = windows_of(rows, cols, random)[:3]
        assert best_window(grid, windows) == cell_by_cell(grid, windows), (kind, grid, windows)


def seeded_grid(kind: str, rows: int, cols: int, random: np.random.Generator) -> Values:
    grid: Values = random.random((rows, cols))
    if kind == "constant":
        grid = np.full((rows, cols), random.random())
    elif kind == "sparse":
        grid = grid * (random.random((rows, cols)) < 0.05)
    elif kind == "mirrored":
        grid = grid + grid[::-1] + grid[:, ::-1] + grid[::-1, ::-1]
    elif kind == "peaked":
        grid = 1e30 * grid**20
    elif kind == "whole numbers":
        grid = np.floor(3 * grid)
    elif kind == "two equal peaks":
        grid.flat[random.integers(0, grid.size, 2)] = 2.0
    return grid.astype(random.choice([np.float32, np.float64]))  # type: ignore[arg-type]


def cell_by_cell(grid: Values, windows: list[tuple[int, int]]) -> BestWindow:
    """Every window summed by itself, columns outside, rows inside."""
    winners = []
    for index, (height, width) in enumerate(windows):
        places = [(x, y) for x in range(grid.shape[1] - width + 1) for y in range(grid.shape[0] - height + 1)]
        sums = {(x, y): grid[y : y + height, x : x + width].sum() for x, y in places}
        x, y = max(places, key=lambda place: sums[place])
        around = [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)]
        beside = np.mean([float(sums[place]) for place in around if place in sums])
        winners.append(((float(sums[x, y]) - beside) / (height * width), BestWindow(index, y, x)))
    return max(winners, key=lambda winner: winner[0])[1]


def test_the_first_maximum_goes_by_columns() -> None:
    grid = np.zeros((3, 3), np.float32)
    grid[0, 2] = grid[2, 1] = 1.0
    assert best_window(grid, [(1, 1)]) == BestWindow(0, 2, 1)


def test_the_first_best_size_wins() -> None:
    grid = np.ones((4, 4), np.float32)
    assert best_window(grid, [(2, 2), (1, 1), (3, 3)]) == BestWindow(0, 0, 0)


def test_the_score_is_per_cell_and_against_the_neighbours() -> None:
    """A lone bright cell stands out most in the smallest window."""
    grid = np.ones((6, 6), np.float32)
    grid[4, 3] = 10.0
    assert best_window(grid, [(3, 3), (1, 1), (2, 2)]) == BestWindow(1, 4, 3)


def test_values_at_the_floor_s_end_stay_finite() -> None:
    grid = np.full((24, 24), 1e36 / 576, np.float32)
    grid[3, 3] *= 2
    found = best_window(grid, [(12, 12), (20, 20)])
    assert math.isfinite(found.row)
    assert found == cell_by_cell(grid, [(12, 12), (20, 20)])


@pytest.mark.parametrize("shape", [(1, 577), (63, 1)])
def test_grids_of_one_row_or_column(shape: tuple[int, int]) -> None:
    grid = np.random.default_rng(5).random(shape).astype(np.float32)
    windows = [(min(2, shape[0]), min(2, shape[1])), (min(9, shape[0]), min(9, shape[1]))]
    assert best_window(grid, windows) == cell_by_cell(grid, windows)
