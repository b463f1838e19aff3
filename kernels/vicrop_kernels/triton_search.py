"""The exact window search in Triton: one picture's map in, its crop box out, by one program.

Its truth is `definition.find_box`. Not yet run on a GPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

from vicrop_kernels.definition import UNIT_BITS as _UNIT_BITS

UNIT_EXPONENT = tl.constexpr(_UNIT_BITS + 126 + 1023)  # as float32's 126 and float64's 1023 store exponents
LOWEST = tl.constexpr(-(1 << 62))  # below every window's sum


@triton.jit
def search(
    heatmap: tl.tensor,
    table: tl.tensor,
    corner: tl.tensor,
    facts: tl.tensor,
    window: tl.tensor,
    map_cols: tl.tensor,
    BLOCK_CELLS: tl.constexpr,
    BLOCK_SIDE: tl.constexpr,
    BLOCK_SIZES: tl.constexpr,
    BLOCK_PLACES: tl.constexpr,
) -> None:
    """The crop box of one picture; `table` is room for sums of its cells."""
    first_row, last_row = tl.load(facts), tl.load(facts + 1)
    first_col, last_col = tl.load(facts + 2), tl.load(facts + 3)
    rows, cols = last_row - first_row, last_col - first_col
    heatmap += first_row * map_cols + first_col
    unit = _unit(heatmap, rows, cols, map_cols, BLOCK_CELLS)
    _sum_up(heatmap, table, unit, rows, cols, map_cols, BLOCK_SIDE)
    tl.debug_barrier()  # the table is whole before it is read

    size = tl.arange(0, BLOCK_SIZES)
    tried = size < tl.load(facts + 6)
    height = tl.load(facts + 7 + 3 * size, mask=tried, other=1)
    width = tl.load(facts + 8 + 3 * size, mask=tried, other=1)
    place, score = _largest(
        *(table, height, width, tried, rows, cols, map_cols, BLOCK_SIZES, BLOCK_PLACES),
    )
    score = tl.where(tried, score, float("-inf"))
    best = tl.min(tl.where(score == tl.max(score, 0), size, BLOCK_SIZES), 0)  # the first of them
    place = tl.sum(tl.where(size == best, place, 0), 0)
    height, width = tl.load(facts + 7 + 3 * best), tl.load(facts + 8 + 3 * best)
    half = tl.load(facts + 9 + 3 * best)
    down = rows - height + 1
    row, col = place % down, place // down

    x0, x1 = _span(corner, first_col, col, width, half, tl.load(facts + 4))
    y0, y1 = _span(corner + 1, first_row, row, height, half, tl.load(facts + 5))
    tl.store(window, x0)
    tl.store(window + 1, y0)
    tl.store(window + 2, x1)
    tl.store(window + 3, y1)


@triton.jit
def _unit(
    heatmap: tl.tensor, rows: tl.tensor, cols: tl.tensor, map_cols: tl.tensor, BLOCK_CELLS: tl.constexpr
) -> tl.tensor:
    """By how much cells are multiplied to count in whole units: a power of two, float64."""
    largest = tl.full((), 0.0, tl.float32)
    for start in range(0, rows * cols, BLOCK_CELLS):
        cell = start + tl.arange(0, BLOCK_CELLS)
        value = tl.load(heatmap + cell // cols * map_cols + cell % cols, mask=cell < rows * cols, other=0.0)
        largest = tl.maximum(largest, tl.max(tl.abs(value), 0))
    exponent = tl.maximum(largest.to(tl.int32, bitcast=True) >> 23, 1)
    return ((-exponent + UNIT_EXPONENT).to(tl.int64) << 52).to(tl.float64, bitcast=True)


@triton.jit
def _sum_up(
    heatmap: tl.tensor,
    table: tl.tensor,
    unit: tl.tensor,
    rows: tl.tensor,
    cols: tl.tensor,
    map_cols: tl.tensor,
    BLOCK_SIDE: tl.constexpr,
) -> None:
    """Sums of all cells above and to the left, the cell's own included, in whole units."""
    side = tl.arange(0, BLOCK_SIDE)
    for left in range(0, cols, BLOCK_SIDE):
        above = tl.full([BLOCK_SIDE], 0, tl.int64)
        col = left + side[None, :]
        for start in range(0, rows, BLOCK_SIDE):
            row = start + side[:, None]
            there = (row < rows) & (col < cols)
            value = tl.load(heatmap + row * map_cols + col, mask=there, other=0.0)
            units = (value.to(tl.float64) * unit).to(tl.int64)
            tl.store(table + row * map_cols + col, tl.cumsum(units, 0) + above[None, :], mask=there)
            above += tl.sum(units, 0)
    tl.debug_barrier()
    for start in range(0, rows, BLOCK_SIDE):
        before = tl.full([BLOCK_SIDE], 0, tl.int64)
        row = start + side[:, None]
        for left in range(0, cols, BLOCK_SIDE):
            col = left + side[None, :]
            there = (row < rows) & (col < cols)
            sums = tl.load(table + row * map_cols + col, mask=there, other=0)
            tl.store(table + row * map_cols + col, tl.cumsum(sums, 1) + before[:, None], mask=there)
            before += tl.sum(sums, 1)


@triton.jit
def _largest(
    table: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    tried: tl.tensor,
    rows: tl.tensor,
    cols: tl.tensor,
    map_cols: tl.tensor,
    BLOCK_SIZES: tl.constexpr,
    BLOCK_PLACES: tl.constexpr,
) -> tl.tensor:
    """Place, counted in column order, and score of the first largest window of every size [BLOCK_SIZES]."""
    down, across = rows - height + 1, cols - width + 1
    places = tl.where(tried, down * across, 0)
    top = tl.full([BLOCK_SIZES], LOWEST, tl.int64)
    place = tl.full([BLOCK_SIZES], 0, tl.int32)
    for start in range(0, tl.max(places, 0), BLOCK_PLACES):
        at = start + tl.arange(0, BLOCK_PLACES)[None, :]
        there = at < places[:, None]
        y, x = at % down[:, None], at // down[:, None]
        sums = _window_sum(table, y, x, height[:, None], width[:, None], map_cols, there)
        sums = tl.where(there, sums, LOWEST)
        most = tl.max(sums, 1)
        foremost = tl.min(tl.where(sums == most[:, None], at, rows * cols), 1)
        place = tl.where(most > top, foremost, place)
        top = tl.maximum(top, most)
    row, col = place % down, place // down
    side = tl.arange(0, 4)[None, :]
    y = row[:, None] + (side == 0).to(tl.int32) - (side == 1).to(tl.int32)
    x = col[:, None] + (side == 2).to(tl.int32) - (side == 3).to(tl.int32)
    there = (y >= 0) & (y < down[:, None]) & (x >= 0) & (x < across[:, None]) & tried[:, None]
    beside = _window_sum(table, y, x, height[:, None], width[:, None], map_cols, there)
    beside = tl.sum(tl.where(there, beside, 0), 1)
    num_beside = tl.maximum(tl.sum(there.to(tl.int32), 1), 1)
    above = num_beside.to(tl.int64) * top - beside
    return place, above.to(tl.float64) / (num_beside * height * width).to(tl.float64)


@triton.jit
def _window_sum(
    table: tl.tensor,
    row: tl.tensor,
    col: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    map_cols: tl.tensor,
    there: tl.tensor,
) -> tl.tensor:
    """Sums of windows by their top left cells."""
    end = table + (row + height - 1) * map_cols + col + width - 1
    over = end - height * map_cols
    sums = tl.load(end, mask=there, other=0)
    sums -= tl.load(end - width, mask=there & (col > 0), other=0)
    sums -= tl.load(over, mask=there & (row > 0), other=0)
    return sums + tl.load(over - width, mask=there & (row > 0) & (col > 0), other=0)


@triton.jit
def _span(
    corner: tl.tensor,
    first: tl.tensor,
    place: tl.tensor,
    cells: tl.tensor,
    half: tl.tensor,
    length: tl.tensor,
) -> tl.tensor:
    """`placement.crop_box` along one axis; products are rounded before they are added, as there."""
    cell = tl.load(corner + 2)
    start = tl.load(corner) + first.to(tl.float64) * cell
    centre = (start + (place.to(tl.float64) * cell + cell * cells.to(tl.float64) * 0.5)).to(tl.int32)
    centre = tl.minimum(tl.maximum(centre, half), length - half)
    return tl.maximum(centre - half, 0), tl.minimum(centre + half, length)
