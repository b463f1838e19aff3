"""The tables that a vision graph is fed with, equal to the bit to those of transformers' own helpers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from transformers import vision_utils

from vicrop_engine.families.qwen.tables import PATCHES, patch_positions, position_taps, windows

SHAPES = [(1, 1), (2, 3), (6, 8), (8, 6), (1, 9), (13, 1), (4, 4), (5, 5), (30, 40), (16, 17)]
PATCH = 14


def grid(rows: int, cols: int) -> torch.Tensor:
    return torch.tensor([[1, 2 * rows, 2 * cols]])


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_positions(rows: int, cols: int) -> None:
    wanted = vision_utils.get_vision_position_ids(grid(rows, cols), 2).numpy()
    got = patch_positions(rows, cols)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("side", [4, 3, 1])
@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_windows_hold_the_patches_that_transformers_puts_together(rows: int, cols: int, side: int) -> None:
    cells, edges = vision_utils.get_vision_window_index(grid(rows, cols), 2, side * 2 * PATCH, PATCH)
    order = (cells[:, None] * PATCHES + torch.arange(PATCHES)).flatten().tolist()
    wanted = [set(order[first:last]) for first, last in itertools.pairwise(edges)]
    window_rows, patch_slots = windows(rows, cols, side)
    number = rows * cols * PATCHES
    assert window_rows.shape == (len(wanted), PATCHES * side**2)
    assert (window_rows.dtype, patch_slots.dtype) == (np.int64, np.int64)
    assert [set(own[own < number].tolist()) for own in window_rows] == wanted
    np.testing.assert_array_equal(window_rows.ravel()[patch_slots], np.arange(number))


@pytest.mark.parametrize("side", [48, 8, 7])
@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_taps_of_the_position_table(rows: int, cols: int, side: int) -> None:
    taps, weights = vision_utils.get_vision_interpolation_indices_and_weights(
        grid(rows, cols), side, mode="bilinear", align_corners=True, spatial_merge_size=2
    )
    got = position_taps(rows, cols, side)
    assert [array.dtype for array in got] == [np.int64, np.float32]
    np.testing.assert_array_equal(got[0], taps.numpy())
    np.testing.assert_array_equal(got[1], weights.numpy())
