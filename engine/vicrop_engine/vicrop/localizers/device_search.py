"""From attention rows on a device to the crop window in one call of the heatmap operator, tiles and all.

What `heatmap_search` does in steps on the host, for rel-att.
"""

from __future__ import annotations

from vicrop_engine.images.geometry import Grid, whole_grid
from vicrop_engine.images.tiling import TilePlan
from vicrop_engine.runtime.device import AttentionRow, Device
from vicrop_engine.vicrop.crop import picture_grid
from vicrop_engine.vicrop.localizers.heatmap_search import HeatmapLocalizer
from vicrop_engine.vicrop.localizers.localizer import Localization
from vicrop_engine.vicrop.request_state import RequestState
from vicrop_engine.vicrop.tiles import tile_states
from vicrop_kernels.arguments import Arguments, Cells, Tiles

Rows = list[list[AttentionRow]]


def search_on_device(localizer: HeatmapLocalizer, state: RequestState, device: Device) -> Localization:
    """The window in the relative attention of the picture, or of its tiles; rows stay on the device."""
    plan = state.tiles
    asked: Rows = []
    usual: Rows = []
    kept = state.grid
    if plan is None or len(plan.boxes) == 1:
        grid, tiles = kept, Tiles()
        _add_rows(state, asked, usual)
    else:
        for tile in tile_states(state, plan, localizer.targets_of_tile):
            kept = tile.grid
            _add_rows(tile, asked, usual)
        tiles = Tiles(plan.rows, plan.cols, _cells(kept), localizer.evens_tiles and not plan.published)
        grid = _grid_of_tiles(plan, kept, state.picture.size)
    state.watch.enter("heatmap")
    crop, cells = state.model.manifest.crop, kept
    heatmaps, boxes = device.locate(
        asked,
        usual,
        Arguments(
            cells.rows,
            cells.cols,
            (picture_grid(grid, state.picture.size),),
            crop.window,
            crop.ratios,
            tiles=tiles,
        ),
    )
    x0, y0, x1, y1 = boxes[0].tolist()
    boxes_of_tiles = () if plan is None else plan.boxes
    return Localization(
        localizer.method, (x0, y0, x1, y1), heatmaps[0], localizer.layers, grid, boxes_of_tiles
    )


def _add_rows(state: RequestState, asked: Rows, usual: Rows) -> None:
    question, general = state.device_rows()
    asked.append(question)
    usual.append(general)


def _cells(grid: Grid) -> Cells:
    return Cells(grid.first_row, grid.last_row, grid.first_col, grid.last_col)


def _grid_of_tiles(plan: TilePlan, kept: Grid, size: tuple[int, int]) -> Grid:
    cells = _cells(kept)
    return whole_grid(plan.rows * cells.rows, plan.cols * cells.cols, size)
