"""The regions that are kept of a heatmap, and the pixels they cover."""

from __future__ import annotations

import numpy as np
import pytest

from vicrop_engine.images.geometry import Grid, whole_grid
from vicrop_engine.vicrop.regions import around, boxes_of, connected, kept_cells


def test_a_fifth_of_the_cells_is_kept_and_of_equal_ones_the_first() -> None:
    grid = whole_grid(4, 5, (50, 40))
    kept = kept_cells(np.ones((4, 5), np.float32), grid)
    assert np.argwhere(kept).tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]


def test_padding_is_never_kept_nor_counted() -> None:
    grid = Grid(4, 5, 0.0, -10.0, 10.0, 10.0, 1, 3, 0, 5)
    heatmap = np.zeros((4, 5), np.float32)
    heatmap[0] = 9.0
    heatmap[2, 4] = 1.0
    kept = kept_cells(heatmap, grid)
    assert kept.sum() == 2, "a fifth of the ten that touch the picture"
    assert kept[2, 4]
    assert not kept[0].any()


def test_the_regions_with_the_largest_sums_are_kept() -> None:
    """Of 100 cells 20 are kept; seven regions, and of these three."""
    heatmap = np.zeros((10, 10), np.float32)
    heatmap[0, 0:6] = 1.0  # six cells, the largest sum
    heatmap[2, 0:4] = 1.1
    heatmap[4, 0:4] = 1.2
    for number, place in enumerate([(6, 0), (6, 3), (6, 6), (8, 1)]):
        heatmap[place] = 3.0 + number / 10  # the largest values, alone
    heatmap[9, 8:] = 2.0
    kept = kept_cells(heatmap, whole_grid(10, 10, (100, 100)))
    assert sorted({int(row) for row, _ in np.argwhere(kept)}) == [0, 2, 4]
    assert kept.sum() == 14


def test_cells_meet_at_corners() -> None:
    assert connected({(0, 0), (1, 1), (2, 0), (2, 3)}) == [[(0, 0), (1, 1), (2, 0)], [(2, 3)]]
    assert connected(set()) == []


def test_boxes_cover_every_pixel_that_a_cell_touches() -> None:
    kept = np.zeros((3, 3), np.bool_)
    kept[0, 0] = kept[0, 1] = kept[2, 2] = True
    boxes = boxes_of(kept, whole_grid(3, 3, (100, 50)), (100, 50))
    assert boxes == ((0, 0, 67, 17), (66, 33, 100, 50))
    assert around(boxes) == (0, 0, 100, 50)


def test_a_cell_that_reaches_beyond_the_picture_is_cut_at_its_edge() -> None:
    """A padded picture of 50 x 25 pixels: the first row lies half outside."""
    grid = Grid(4, 5, 0.0, -5.0, 10.0, 10.0, 0, 3, 0, 5)
    kept = np.zeros((4, 5), np.bool_)
    kept[0, 0] = kept[1, 2:] = True
    assert boxes_of(kept, grid, (50, 25)) == ((0, 0, 10, 5), (20, 5, 50, 15))
    kept[2, 4] = True
    assert boxes_of(kept, grid, (50, 22))[-1] == (40, 15, 50, 22)


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (4000, 2)])
def test_a_box_holds_a_pixel_of_however_thin_a_picture(size: tuple[int, int]) -> None:
    kept = np.zeros((12, 12), np.bool_)
    kept[11, 11] = kept[0, 5] = True
    for x0, y0, x1, y1 in boxes_of(kept, whole_grid(12, 12, size), size):
        assert 0 <= x0 < x1 <= size[0]
        assert 0 <= y0 < y1 <= size[1]


def test_rounding_adds_no_pixel() -> None:
    """1900 / 12 · 3 is a little more than 475 in floating point."""
    kept = np.zeros((1, 12), np.bool_)
    kept[0, 2] = True
    assert boxes_of(kept, whole_grid(1, 12, (1900, 10)), (1900, 10)) == ((316, 0, 475, 10),)
