"""Tile plans: they cover any picture, and where the published code goes wrong they do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vicrop_engine.errors import ImageError
from vicrop_engine.images.tiling import (
    MAX_TILES,
    TILE_SIDE,
    TilePlan,
    over_its_mean,
    plan_tiles,
    published_tiles,
    stitched,
    worth_tiles,
)

SIDES = st.integers(2, 9000)


def covered(plan: TilePlan) -> bool:
    """Whether the tiles lie row by row, edge to edge, from corner to corner of the picture."""
    width, height = plan.size
    rows = [plan.boxes[start : start + plan.cols] for start in range(0, len(plan.boxes), plan.cols)]
    tops, bottoms = [row[0][1] for row in rows], [row[0][3] for row in rows]
    level = all({(box[1], box[3]) for box in row} == {(row[0][1], row[0][3])} for row in rows)
    joined = all(
        [box[0] for box in row] == [0, *(box[2] for box in row[:-1])] and row[-1][2] == width for row in rows
    )
    return (
        len(rows) == plan.rows and level and joined and tops == [0, *bottoms[:-1]] and bottoms[-1] == height
    )


@settings(max_examples=300, deadline=None)
@given(SIDES, SIDES)
def test_tiles_cover_the_picture_exactly_within_the_limits(width: int, height: int) -> None:
    plan = plan_tiles((width, height))
    assert covered(plan)
    sizes = {(x1 - x0, y1 - y0) for x0, y0, x1, y1 in plan.boxes}
    wide, high = ([size[axis] for size in sizes] for axis in (0, 1))
    assert min(wide) >= 1
    assert min(high) >= 1
    assert max(*wide, *high) <= TILE_SIDE
    assert max(wide) - min(wide) <= 1
    assert max(high) - min(high) <= 1
    fewest = -(-width // TILE_SIDE) * -(-height // TILE_SIDE)
    assert len(plan.boxes) == fewest <= MAX_TILES


@settings(max_examples=300, deadline=None)
@given(SIDES, SIDES, st.sampled_from([12, 16, 24]))
def test_a_tile_takes_whole_patches_in_its_own_shape(width: int, height: int, side: int) -> None:
    plan = plan_tiles((width, height))
    rows, cols = plan.cells(side, side)
    assert max(rows, cols) == side
    assert min(rows, cols) >= 1
    longer = max(width / plan.cols, height / plan.rows)
    assert abs(rows - side * height / plan.rows / longer) <= (1 if rows == 1 else 0.5)
    assert abs(cols - side * width / plan.cols / longer) <= (1 if cols == 1 else 0.5)


@settings(max_examples=300, deadline=None)
@given(SIDES, SIDES)
def test_the_published_plan_is_ours_where_it_has_no_columns(width: int, height: int) -> None:
    rows = -(-height // 1024)
    cols = int(rows * width / height)
    if rows * cols > MAX_TILES:
        with pytest.raises(ImageError, match=f"makes {rows * cols} tiles and the limit is {MAX_TILES}"):
            published_tiles((width, height))
        return
    plan = published_tiles((width, height))
    if cols == 0:
        assert plan == plan_tiles((width, height))
        return
    assert (plan.rows, plan.cols, plan.published) == (rows, cols, True)
    assert len({(x1 - x0, y1 - y0) for x0, y0, x1, y1 in plan.boxes}) == 1
    assert plan.boxes[-1][2] >= width
    assert plan.boxes[-1][3] >= height


@pytest.mark.parametrize(
    ("size", "published", "ours"),
    [
        ((768, 1024), (0, 0), (1, 1)),
        ((500, 3000), (0, 0), (3, 1)),
        ((1500, 4000), (4, 1), (4, 2)),
        ((2051, 1025), (2, 4), (2, 3)),
        ((20000, 300), (1, 66), (1, 20)),
        ((1024, 1024), (1, 1), (1, 1)),
        ((1025, 1024), (1, 1), (1, 2)),
    ],
)
def test_where_the_published_plan_goes_wrong(
    size: tuple[int, int], published: tuple[int, int], ours: tuple[int, int]
) -> None:
    """No columns, tiles over 1024 pixels, a last tile beyond the edge, 66 tiles of 303 pixels."""
    plan, compat = plan_tiles(size), published_tiles(size)
    assert (plan.rows, plan.cols) == ours
    assert covered(plan)
    assert (compat.rows, compat.cols) == (published if all(published) else ours)


def test_too_many_tiles_are_refused_with_the_limit() -> None:
    assert len(plan_tiles((10240, 10240)).boxes) == MAX_TILES == 100
    with pytest.raises(ImageError, match="10241 x 10240 pixels makes 110 tiles and the limit is 100; give a"):
        plan_tiles((10241, 10240))


@pytest.mark.parametrize(
    ("size", "worth"),
    [((1536, 1536), False), ((1537, 200), True), ((200, 1537), True), ((12000, 12000), False)],
)
def test_what_auto_takes_tiles_for(size: tuple[int, int], worth: bool) -> None:
    assert worth_tiles(size) is worth


def test_a_map_over_its_mean_keeps_its_shape() -> None:
    values = np.random.default_rng(1).random((5, 7)).astype(np.float32) * 1e35
    evened = over_its_mean(values)
    assert evened.mean() == pytest.approx(1, rel=1e-6)
    np.testing.assert_allclose(evened / evened[0, 0], values / values[0, 0], rtol=1e-6)
    zeros = np.zeros((5, 7), np.float32)
    assert over_its_mean(zeros) is zeros


def test_maps_are_stitched_row_by_row() -> None:
    plan = plan_tiles((2048, 3000))
    maps = [np.full((2, 4), number, np.float32) for number in range(6)]
    whole = stitched(maps, plan)
    assert (whole.shape, whole.dtype) == ((6, 8), np.float32)
    assert whole[::2, ::4].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert (whole.reshape(3, 2, 2, 4) == whole[::2, ::4].reshape(3, 1, 2, 1)).all()
