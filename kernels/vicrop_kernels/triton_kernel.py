"""The heatmap operator as one Triton kernel: rows to heatmap, and then the search of `triton_search`.

A program takes some patches of one map and writes their cells; the last of a picture's programs to get there
takes its tiles over their means and searches the map. So nothing waits for another program, and everything is
one launch. Its truth is `definition.locate`. Not yet run on a GPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

from vicrop_kernels.definition import FLOOR as _FLOOR
from vicrop_kernels.triton_search import search

FLOOR = tl.constexpr(_FLOOR)

SHAPES = (  # of which no value deserves a kernel of its own
    *(
        "facts_stride",
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
    corners: tl.tensor,  # float64 [batch, 4]: left, top, cell width, cell height
    facts: tl.tensor,  # int32 [batch, facts_stride], see launch.facts
    heatmap: tl.tensor,  # float32 [batch, map_rows, map_cols]
    window: tl.tensor,  # int32 [batch, 4]
    table: tl.tensor,  # int64 [batch, map_rows, map_cols], scratch
    arrivals: tl.tensor,  # int32 [batch], zero before and after
    facts_stride: tl.tensor,
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
    blocks, tiles = tl.cdiv(rows * cols, BLOCK_PATCHES), tile_rows * tile_cols
    one_map = tl.program_id(0) // blocks
    picture = one_map // tiles
    patch = (tl.program_id(0) % blocks) * BLOCK_PATCHES + tl.arange(0, BLOCK_PATCHES)
    values = _mean_of_layers(
        *(first + one_map.to(tl.int64) * first_map, first_layer, first_head, first_patch),
        *(second + one_map.to(tl.int64) * second_map, second_layer, second_head, second_patch),
        *(weights, layers, patch, heads, rows * cols, GRADIENT, BLOCK_PATCHES, BLOCK_HEADS),
    )
    cells = picture.to(tl.int64) * (tiles * kept_rows * kept_cols)
    facts += picture * facts_stride
    _store_cells(
        *(heatmap + cells, facts, values, patch, rows * cols, cols, kept_row, kept_col),
        *(one_map % tiles, kept_rows, kept_cols, tile_cols, over_mean),
    )
    _search_if_last(
        *(arrivals + picture, tiles * blocks, heatmap + cells, facts, window + picture * 4, table + cells),
        *(corners + picture * 4, tiles, tile_cols, kept_rows, kept_cols, over_mean),
        *(BLOCK_CELLS, BLOCK_SIDE, BLOCK_SIZES, BLOCK_PLACES),
    )


@triton.jit
def _mean_of_layers(
    first: tl.tensor,
    first_layer: tl.tensor,
    first_head: tl.tensor,
    first_patch: tl.tensor,
    second: tl.tensor,
    second_layer: tl.tensor,
    second_head: tl.tensor,
    second_patch: tl.tensor,
    weights: tl.tensor,
    layers: tl.tensor,
    patch: tl.tensor,
    heads: tl.tensor,
    patches: tl.tensor,
    GRADIENT: tl.constexpr,
    BLOCK_PATCHES: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
) -> tl.tensor:
    """The values of some patches of one map, over all layers by their weights."""
    values = tl.full([BLOCK_PATCHES], 0.0, tl.float32)
    for layer in range(layers):
        value = _layer(
            *(first, first_head, first_patch, second, second_head, second_patch),
            *(patch, heads, patches, GRADIENT, BLOCK_PATCHES, BLOCK_HEADS),
        )
        values += tl.load(weights + layer) * value
        first += first_layer
        second += second_layer
    return values


@triton.jit
def _store_cells(
    heatmap: tl.tensor,
    facts: tl.tensor,
    values: tl.tensor,
    patch: tl.tensor,
    patches: tl.tensor,
    cols: tl.tensor,
    kept_row: tl.tensor,
    kept_col: tl.tensor,
    tile: tl.tensor,
    kept_rows: tl.tensor,
    kept_cols: tl.tensor,
    tile_cols: tl.tensor,
    over_mean: tl.tensor,
) -> None:
    """Write the patches that are kept of a tile where they lie on the picture's map; beside it they are 0."""
    row, col = patch // cols - kept_row, patch % cols - kept_col
    kept = (patch < patches) & (row >= 0) & (row < kept_rows) & (col >= 0) & (col < kept_cols)
    y, x = tile // tile_cols * kept_rows + row, tile % tile_cols * kept_cols + col
    if over_mean == 0:
        values = tl.where(_inside(facts, y, x), values, 0.0)
    tl.store(heatmap + y * (tile_cols * kept_cols) + x, values, mask=kept)


@triton.jit
def _search_if_last(
    arrivals: tl.tensor,
    programs: tl.tensor,
    heatmap: tl.tensor,
    facts: tl.tensor,
    window: tl.tensor,
    table: tl.tensor,
    corners: tl.tensor,
    tiles: tl.tensor,
    tile_cols: tl.tensor,
    kept_rows: tl.tensor,
    kept_cols: tl.tensor,
    over_mean: tl.tensor,
    BLOCK_CELLS: tl.constexpr,
    BLOCK_SIDE: tl.constexpr,
    BLOCK_SIZES: tl.constexpr,
    BLOCK_PLACES: tl.constexpr,
) -> None:
    """The last of a picture's programs takes its tiles over their means, and finds the window."""
    tl.debug_barrier()  # all threads' cells are written before this program is counted
    if tl.atomic_add(arrivals, 1, sem="acq_rel", scope="gpu") == programs - 1:
        tl.store(arrivals, 0)
        map_cols = tile_cols * kept_cols
        if over_mean != 0:
            for tile in range(tiles):
                corner = tile // tile_cols * kept_rows * map_cols + tile % tile_cols * kept_cols
                _over_mean(heatmap, facts, corner, kept_rows, kept_cols, map_cols, BLOCK_CELLS)
            tl.debug_barrier()
        if tl.load(facts + 6) == 0:  # no window is smaller than the picture
            tl.store(window, 0)
            tl.store(window + 1, 0)
            tl.store(window + 2, tl.load(facts + 4))
            tl.store(window + 3, tl.load(facts + 5))
        else:
            search(
                *(heatmap, table, corners, facts, window, map_cols),
                *(BLOCK_CELLS, BLOCK_SIDE, BLOCK_SIZES, BLOCK_PLACES),
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
    asked = tl.full([BLOCK_PATCHES], 0.0, tl.float32)
    usual = asked
    one_patch, other_patch = first + patch[None, :] * first_patch, second + patch[None, :] * second_patch
    for start in range(0, heads, BLOCK_HEADS):
        head = start + tl.arange(0, BLOCK_HEADS)[:, None]
        there = (head < heads) & (patch < patches)[None, :]
        one = tl.load(one_patch + head * first_head, mask=there, other=0.0)
        other = tl.load(other_patch + head * second_head, mask=there, other=0.0)
        if GRADIENT:
            asked += tl.sum(one.to(tl.float32) * tl.maximum(other.to(tl.float32), 0.0), 0)
        else:
            asked += tl.sum(one.to(tl.float32), 0)
            usual += tl.sum(other.to(tl.float32), 0)
    number = tl.full([BLOCK_PATCHES], heads, tl.float32)
    asked = tl.math.div_rn(asked, number)
    if GRADIENT:
        return asked
    usual = tl.math.div_rn(usual, number)
    return tl.math.div_rn(asked, tl.maximum(usual, FLOOR))


@triton.jit
def _inside(facts: tl.tensor, y: tl.tensor, x: tl.tensor) -> tl.tensor:
    """Whether cells touch the picture."""
    down = (y >= tl.load(facts)) & (y < tl.load(facts + 1))
    return down & (x >= tl.load(facts + 2)) & (x < tl.load(facts + 3))


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
        value = tl.math.div_rn(value, tl.full([BLOCK_CELLS], mean, tl.float32))
        value = tl.where(_inside(facts, place // map_cols, place % map_cols), value, 0.0)
        tl.store(heatmap + place, value, mask=cell < rows * cols)
