"""From the heatmap of a picture, whole or in tiles, to the crop window: the same for every heatmap method."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from vicrop_engine.arrays import Heatmap
from vicrop_engine.images.geometry import Grid, whole_grid
from vicrop_engine.images.tiling import TilePlan, over_its_mean, stitched
from vicrop_engine.vicrop.crop import find_box, outside_zeroed
from vicrop_engine.vicrop.localizers.localizer import Localization, Localizer
from vicrop_engine.vicrop.request_state import PassTargets, RequestState
from vicrop_engine.vicrop.tiles import tile_states


@runtime_checkable
class HeatmapLocalizer(Localizer, Protocol):
    """A way that makes a heatmap; such a one can look at a large picture in tiles."""

    @property
    def method(self) -> str:
        """Its name."""

    @property
    def layers(self) -> tuple[int, ...]:
        """The heatmap layers."""

    @property
    def targets_of_tile(self) -> PassTargets:
        """What it needs of the pass over one tile."""

    @property
    def evens_tiles(self) -> bool:
        """Whether maps of two tiles differ in scale for no good reason, so that each goes over its mean."""

    def heatmap(self, state: RequestState) -> Heatmap:
        """The heatmap of a picture or tile, a value per patch [rows, cols]; padding may say anything."""


def search_heatmap(localizer: HeatmapLocalizer, state: RequestState) -> Localization:
    """The window in the localizer's heatmap of the picture, or of its tiles put together."""
    plan = state.tiles
    grid, values = map_of(localizer, state)
    crop, size = state.model.manifest.crop, state.picture.size
    state.watch.enter("heatmap")
    box = find_box(values, grid, size, crop.window, crop.ratios)
    tiles = () if plan is None else plan.boxes
    return Localization(localizer.method, box, values, localizer.layers, grid, tiles)


def map_of(localizer: HeatmapLocalizer, state: RequestState) -> tuple[Grid, Heatmap]:
    """The localizer's heatmap of the picture, or of its tiles put together, and how it lies on the picture.

    Zero in cells that do not touch it.
    """
    plan = state.tiles
    if plan is None or len(plan.boxes) == 1:
        return state.grid, outside_zeroed(localizer.heatmap(state), state.grid)
    return _of_tiles(localizer, state, plan)


def _of_tiles(localizer: HeatmapLocalizer, state: RequestState, plan: TilePlan) -> tuple[Grid, Heatmap]:
    """The tiles' maps as one, and its grid; patches beside a tile are left out.

    The published code compares tiles as they are.
    """
    evens, maps = localizer.evens_tiles and not plan.published, []
    for tile in tile_states(state, plan, localizer.targets_of_tile):
        grid = tile.grid
        values = localizer.heatmap(tile)[grid.first_row : grid.last_row, grid.first_col : grid.last_col]
        maps.append(over_its_mean(values) if evens else values)
    values = stitched(maps, plan)
    rows, cols = values.shape
    return whole_grid(rows, cols, state.picture.size), values
