"""From the heatmap of a picture, whole or in tiles, to the crop window: the same for every heatmap method."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from vicrop_engine.crop import Heatmap, find_box, outside_zeroed
from vicrop_engine.geometry import Grid, whole_grid
from vicrop_engine.localizers.localizer import Localization, Localizer
from vicrop_engine.reading import Reading, Wanted
from vicrop_engine.tile_reading import tile_readings
from vicrop_engine.tiling import TilePlan, over_its_mean, stitched


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
    def wanted_of_tile(self) -> Wanted:
        """What it needs of the pass over one tile."""

    @property
    def evens_tiles(self) -> bool:
        """Whether maps of two tiles differ in scale for no good reason, so that each goes over its mean."""

    def heatmap(self, reading: Reading) -> Heatmap:
        """The heatmap of one reading, a value per patch [rows, cols]; patches of padding may say anything."""


def search_heatmap(localizer: HeatmapLocalizer, reading: Reading) -> Localization:
    """The window in the localizer's heatmap of the picture, or of its tiles put together."""
    plan = reading.tiles
    if plan is None or len(plan.boxes) == 1:
        grid, values = reading.grid, outside_zeroed(localizer.heatmap(reading), reading.grid)
    else:
        grid, values = _of_tiles(localizer, reading, plan)
    crop, size = reading.model.manifest.crop, reading.picture.size
    reading.watch.enter("heatmap")
    box = find_box(values, grid, size, crop.window, crop.ratios)
    tiles = () if plan is None else plan.boxes
    return Localization(localizer.method, box, values, localizer.layers, grid, tiles)


def _of_tiles(localizer: HeatmapLocalizer, reading: Reading, plan: TilePlan) -> tuple[Grid, Heatmap]:
    """The tiles' maps as one, and its grid; patches beside a tile are left out.

    The published code compares tiles as they are.
    """
    evens, maps = localizer.evens_tiles and not plan.published, []
    for tile in tile_readings(reading, plan, localizer.wanted_of_tile):
        grid = tile.grid
        values = localizer.heatmap(tile)[grid.first_row : grid.last_row, grid.first_col : grid.last_col]
        maps.append(over_its_mean(values) if evens else values)
    values = stitched(maps, plan)
    rows, cols = values.shape
    return whole_grid(rows, cols, reading.picture.size), values
