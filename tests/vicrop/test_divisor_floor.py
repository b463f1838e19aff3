"""The floor under rel-att's divisor, on grids of which a part is padding."""

from __future__ import annotations

import numpy as np
import pytest

from vicrop_engine.images.geometry import Grid
from vicrop_engine.vicrop.localizers.relative_attention import floored

ROWS, COLS = 4, 6
PADDED = Grid(ROWS, COLS, 0.0, -10.0, 10.0, 10.0, 1, 3, 0, COLS)  # first and last row saw padding


def rows_of(mean: np.ndarray) -> np.ndarray:
    """Two heads [1, 2, patches] with this mean [rows, cols]."""
    return np.stack((0.5 * mean.ravel(), 1.5 * mean.ravel()))[None].astype(np.float32)


def test_the_mean_is_of_the_cells_that_touch_the_picture() -> None:
    mean = np.full((ROWS, COLS), 100.0)
    mean[1:3] = np.arange(12).reshape(2, COLS)  # their mean is 5.5
    got = floored(rows_of(mean), PADDED, 0.5)
    assert got.shape == (1, 2, ROWS * COLS)
    inside = got.reshape(2, ROWS, COLS)[:, 1:3]
    assert inside.tolist() == [np.maximum(mean[1:3], 2.75).tolist()] * 2


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_each_layer_has_a_floor_of_its_own(share: float) -> None:
    faint, strong = np.full((ROWS, COLS), 1e-4), np.full((ROWS, COLS), 1.0)
    faint[1, 0] = strong[1, 0] = 0.0
    got = floored(np.concatenate((rows_of(faint), rows_of(strong))), PADDED, share)
    assert got[:, 0, COLS] == pytest.approx([share * 1e-4 * 11 / 12, share * 11 / 12])
