"""The heatmap operator as one Triton kernel: the only file that needs Triton to be read.

A program takes some patches of one map and writes their cells; the last of a picture's programs to get there
takes its tiles over their means and searches the map. So nothing waits for another program, and everything is
one launch. Its truth is `definition.locate`. Not yet run on a GPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

from vicrop_kernels.definition import FLOOR as _FLOOR
from vicrop_kernels.definition import UNIT_BITS as _UNIT_BITS

FLOOR = tl.constexpr(_FLOOR)
UNIT_EXPONENT = tl.constexpr(_UNIT_BITS + 126 + 1023)  # as float32's 126 and float64's 1023 store exponents
LOWEST = tl.constexpr(-(1 << 62))  # below every window's sum


SHAPES = (  # of which no value deserves a kernel of its own
    *(
        "picture_stride",
        "first_map",
        "first_layer",
        "first_head",
        "second_map",
        "second_layer",
        "second_head",
    ),
    *("layers", "heads", "rows", "cols", "kept_row", "kept_col", "kept_rows", "kept_cols"),
    *("tile_rows", "tile_cols", "over_mean"),
)


@triton.jit(do_not_specialize=SHAPES)
def locate(
    first: tl.tensor,  # rows [maps, layers, heads, patches]
    second: tl.tensor,
    weights: tl.tensor,  # float32 [layers]
    pictures: tl.tensor,  # float64 [batch, picture_stride], see triton_operator.described
    heatmap: tl.tensor,  # float32 [batch, map_rows, map_cols]
    window: tl.tensor,  # int32 [batch, 4]
    table: tl.tensor,  # int64 [batch, map_rows, map_cols], scratch
    arrivals: tl.tensor,  # int32 [batch], zero before and after
    picture_stride: tl.tensor,
    first_map: tl.tensor,
    first_layer: tl.tensor,
    first_head: tl.tensor,
    first_patch: tl.tensor,
    second_map: tl.tensor,
    second_layer: tl.tensor,
    second_head: tl.tensor,
    second_patch: tl.tensor,
    layers: tl.tensor,
    heads: tl.tensor,
    rows: tl.tensor,
    cols: tl.tensor,
    kept_row: tl.tensor,
    kept_col: tl.tensor,
    kept_rows: tl.tensor,
    kept_cols: tl.tensor,
    tile_rows: tl.tensor,
    tile_cols: tl.tensor,
    over_mean: tl.tensor,
    GRADIENT: tl.constexpr,
    BLOCK_PATCHES: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
    BLOCK_CELLS: tl.constexpr,
    BLOCK_SIDE: tl.constexpr,
    BLOCK_SIZES: tl.constexpr,  # at least as many as there are ratios
    BLOCK_PLACES: tl.constexpr,
) -> None:
    """One program for every BLOCK_PATCHES patches of every map."""
    blocks = tl.cdiv(rows * cols, BLOCK_PATCHES)
    one_map = tl.program_id(0) // blocks
    tiles = tile_rows * tile_cols
    picture = one_map // tiles
    patch = (tl.program_id(0) % blocks) * BLOCK_PATCHES + tl.arange(0, BLOCK_PATCHES)

    first += one_map.to(tl.int64) * first_map
    second += one_map.to(tl.int64) * second_map
    values = tl.zeros([BLOCK_PATCHES], tl.float32)
    for layer in range(layers):
        value = _layer(
            *(first, first_head, first_patch, second, second_head, second_patch),
            *(patch, heads, rows * cols, GRADIENT, BLOCK_PATCHES, BLOCK_HEADS),
        )
        values += tl.load(weights + layer) * value
        first += first_layer
        second += second_layer

    map_cols = tile_cols * kept_cols
    map_cells = tile_rows * kept_rows * map_cols
    heatmap += picture.to(tl.int64) * map_cells
    facts = pictures + picture * picture_stride
    row, col = patch // cols - kept_row, patch % cols - kept_col
    kept = (patch < rows * cols) & (row >= 0) & (row < kept_rows) & (col >= 0) & (col < kept_cols)
    y, x = one_map % tiles // tile_cols * kept_rows + row, one_map % tile_cols * kept_cols + col
    if over_mean == 0:
        values = tl.where(_inside(facts, y, x), values, 0.0)
    tl.store(heatmap + y * map_cols + x, values, mask=kept)

    tl.debug_barrier()  # all threads' cells are written before this program is counted
    arrived = tl.atomic_add(arrivals + picture, 1, sem="acq_rel", scope="gpu")
    if arrived == tiles * blocks - 1:
        tl.store(arrivals + picture, 0)
        if over_mean != 0:
            for tile in range(tiles):
                corner = tile // tile_cols * kept_rows * map_cols + tile % tile_cols * kept_cols
                _over_mean(heatmap, facts, corner, kept_rows, kept_cols, map_cols, BLOCK_CELLS)
            tl.debug_barrier()
        _search(
            *(heatmap, table + picture.to(tl.int64) * map_cells, facts, window + picture * 4),
            *(map_cols, BLOCK_CELLS, BLOCK_SIDE, BLOCK_SIZES, BLOCK_PLACES),
        )


@triton.jit
def _layer(
    first: tl.tensor,
    first_head: tl.tensor,
    first_patch: tl.tensor,
    second: tl.tensor,
    second_head: tl.tensor,
    second_patch: tl.tensor,
    patch: tl.tensor,
    heads: tl.tensor,
    patches: tl.tensor,
    GRADIENT: tl.constexpr,
    BLOCK_PATCHES: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
) -> tl.tensor:
    """One layer's values of some patches, float32 [BLOCK_PATCHES]."""
    asked = tl.zeros([BLOCK_PATCHES], tl.float32)
    usual = tl.zeros([BLOCK_PATCHES], tl.float32)
    for start in range(0, heads, BLOCK_HEADS):
        head = start + tl.arange(0, BLOCK_HEADS)[:, None]
        there = (head < heads) & (patch < patches)[None, :]
        one = tl.load(first + head * first_head + patch[None, :] * first_patch, mask=there, other=0.0)
        other = tl.load(second + head * second_head + patch[None, :] * second_patch, mask=there, other=0.0)
        if GRADIENT:
            asked += tl.sum(one.to(tl.float32) * tl.maximum(other.to(tl.float32), 0.0), 0)
        else:
            asked += tl.sum(one.to(tl.float32), 0)
            usual += tl.sum(other.to(tl.float32), 0)
    heads = heads.to(tl.float32)
    asked = tl.math.div_rn(asked, heads + tl.zeros_like(asked))
    if GRADIENT:
        return asked
    usual = tl.math.div_rn(usual, heads + tl.zeros_like(usual))
    return tl.math.div_rn(asked, tl.maximum(usual, FLOOR))


@triton.jit
def _inside(facts: tl.tensor, y: tl.tensor, x: tl.tensor) -> tl.tensor:
    """Whether cells touch the picture."""
    down = (y >= tl.load(facts + 4).to(tl.int32)) & (y < tl.load(facts + 5).to(tl.int32))
    across = (x >= tl.load(facts + 6).to(tl.int32)) & (x < tl.load(facts + 7).to(tl.int32))
    return down & across


@triton.jit
def _over_mean(
    heatmap: tl.tensor,
    facts: tl.tensor,
    corner: tl.tensor,
    rows: tl.tensor,
    cols: tl.tensor,
    map_cols: tl.tensor,
    BLOCK_CELLS: tl.constexpr,
) -> None:
    """One tile of the map over its mean, and zero outside the picture; the mean is taken in float64."""
    total = tl.full((), 0.0, tl.float64)
    for start in range(0, rows * cols, BLOCK_CELLS):
        cell = start + tl.arange(0, BLOCK_CELLS)
        place = corner + cell // cols * map_cols + cell % cols
        total += tl.sum(tl.load(heatmap + place, mask=cell < rows * cols, other=0.0).to(tl.float64), 0)
    mean = (total / (rows * cols).to(tl.float64)).to(tl.float32)
    mean = tl.where(mean > 0, mean, 1.0)
    for start in range(0, rows * cols, BLOCK_CELLS):
        cell = start + tl.arange(0, BLOCK_CELLS)
        place = corner + cell // cols * map_cols + cell % cols
        value = tl.load(heatmap + place, mask=cell < rows * cols, other=0.0)
        value = tl.math.div_rn(value, mean + tl.zeros_like(value))
        value = tl.where(_inside(facts, place // map_cols, place % map_cols), value, 0.0)
        tl.store(heatmap + place, value, mask=cell < rows * cols)


@triton.jit
def _search(
    heatmap: tl.tensor,
    table: tl.tensor,
    facts: tl.tensor,
    window: tl.tensor,
    map_cols: tl.tensor,
    BLOCK_CELLS: tl.constexpr,
    BLOCK_SIDE: tl.constexpr,
    BLOCK_SIZES: tl.constexpr,  # at least as many as there are ratios
    BLOCK_PLACES: tl.constexpr,
) -> None:
    """The crop box of one picture; `table` is room for sums of its cells."""
    first_row, last_row = tl.load(facts + 4).to(tl.int32), tl.load(facts + 5).to(tl.int32)
    first_col, last_col = tl.load(facts + 6).to(tl.int32), tl.load(facts + 7).to(tl.int32)
    rows, cols = last_row - first_row, last_col - first_col
    heatmap += first_row * map_cols + first_col
    unit = _unit(heatmap, rows, cols, map_cols, BLOCK_CELLS)
    _sum_up(heatmap, table, unit, rows, cols, map_cols, BLOCK_SIDE)
    tl.debug_barrier()  # the table is whole before it is read

    size = tl.arange(0, BLOCK_SIZES)
    tried = size < tl.load(facts + 10).to(tl.int32)
    height = tl.load(facts + 11 + 3 * size, mask=tried, other=1).to(tl.int32)
    width = tl.load(facts + 12 + 3 * size, mask=tried, other=1).to(tl.int32)
    half = tl.load(facts + 13 + 3 * size, mask=tried, other=0).to(tl.int32)
    row, col, score = _largest(
        *(table, height, width, tried, rows, cols, map_cols, BLOCK_SIZES, BLOCK_PLACES),
    )
    score = tl.where(tried, score, float("-inf"))
    first = tl.min(tl.where(score == tl.max(score, 0), size, BLOCK_SIZES), 0)
    best = size == first  # the first best
    row, col = tl.sum(tl.where(best, row, 0), 0), tl.sum(tl.where(best, col, 0), 0)
    height, width = tl.sum(tl.where(best, height, 0), 0), tl.sum(tl.where(best, width, 0), 0)
    half = tl.sum(tl.where(best, half, 0), 0)

    x0, x1 = _span(facts, first_col, col, width, half)
    y0, y1 = _span(facts + 1, first_row, row, height, half)
    whole = tl.load(facts + 10) == 0
    tl.store(window, tl.where(whole, 0, x0))
    tl.store(window + 1, tl.where(whole, 0, y0))
    tl.store(window + 2, tl.where(whole, tl.load(facts + 8).to(tl.int32), x1))
    tl.store(window + 3, tl.where(whole, tl.load(facts + 9).to(tl.int32), y1))


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
        above = tl.zeros([BLOCK_SIDE], tl.int64)
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
        before = tl.zeros([BLOCK_SIDE], tl.int64)
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
    """Row, column and score of the first largest window in column order, of every size [BLOCK_SIZES]."""
    down, across = rows - height + 1, cols - width + 1
    places = tl.where(tried, down * across, 0)
    top = tl.full([BLOCK_SIZES], LOWEST, tl.int64)
    place = tl.zeros([BLOCK_SIZES], tl.int32)
    for start in range(0, tl.max(places, 0), BLOCK_PLACES):
        at = start + tl.arange(0, BLOCK_PLACES)[None, :] + tl.zeros([BLOCK_SIZES, 1], tl.int32)
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
    return row, col, above.to(tl.float64) / (num_beside * height * width).to(tl.float64)


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
    facts: tl.tensor, first: tl.tensor, place: tl.tensor, cells: tl.tensor, half: tl.tensor
) -> tl.tensor:
    """`placement.crop_box` along one axis; products are rounded before they are added, as there."""
    cell = tl.load(facts + 2)
    corner = tl.load(facts) + first.to(tl.float64) * cell
    centre = (corner + (place.to(tl.float64) * cell + cell * cells.to(tl.float64) * 0.5)).to(tl.int32)
    length = tl.load(facts + 8).to(tl.int32)
    centre = tl.minimum(tl.maximum(centre, half), length - half)
    return tl.maximum(centre - half, 0), tl.minimum(centre + half, length)
