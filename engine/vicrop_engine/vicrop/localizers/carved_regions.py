"""carve: the regions where the question looks more than the general prompt does, and black between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vicrop_engine.arrays import Heatmap
from vicrop_engine.engine_dir.layer_choice import scaled_layers
from vicrop_engine.vicrop.crop import fits_window
from vicrop_engine.vicrop.localizers.heatmap_search import map_of
from vicrop_engine.vicrop.localizers.localizer import Localization
from vicrop_engine.vicrop.regions import around, boxes_of, kept_cells
from vicrop_engine.vicrop.request_state import PassTargets, RequestState

PUBLISHED_LAYERS = range(20, 26)  # of 32
FLOOR = 1e-8  # added to the divisor


def carve_layers(num_layers: int) -> tuple[int, ...]:
    """Its layers for a decoder of this depth: 20 to 25 of 32, scaled."""
    return scaled_layers(PUBLISHED_LAYERS, num_layers)


@dataclass(frozen=True)
class CarvedRegions:
    """carve: the sum over `layers` of the question's attention over the general prompt's, and its regions.

    The first step of CARVE (arXiv 2509.06461): rows of the prompt's last token alone, none of tokens that are
    decoded later. The crop is the box around the regions, black outside them. A picture within one window is
    its own crop, with no heatmap, unless `always` asks for one.
    """

    layers: tuple[int, ...]
    always: bool = False
    method: ClassVar[str] = "carve"
    evens_tiles: ClassVar[bool] = True  # as rel-att's: the general prompt sets a tile's scale

    @property
    def targets_of_tile(self) -> PassTargets:
        """Attention rows alone: a tile stops at the highest of the layers."""
        return PassTargets(answer=False, layers=self.layers)

    def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
        """Its layers, unless the picture is its own crop."""
        return () if fits_window(size, window) and not self.always else self.layers

    def locate(self, state: RequestState) -> Localization:
        """The regions and the box around them; the whole of a picture that is its own crop."""
        size = state.picture.size
        if not self.layers_read(size, state.model.manifest.crop.window):
            return Localization(self.method, (0, 0, *size))
        grid, values = map_of(self, state)
        state.watch.enter("heatmap")
        parts = boxes_of(kept_cells(values, grid), grid, size)
        tiles = () if state.tiles is None else state.tiles.boxes
        return Localization(self.method, around(parts), values, self.layers, grid, tiles, parts)

    def heatmap(self, state: RequestState) -> Heatmap:
        """From one attention row of the question and one of the general prompt, per layer."""
        asked, usual = (
            rows.mean(axis=1, dtype=np.float64) for rows in (state.question_rows(), state.general_rows())
        )
        state.watch.enter("heatmap")
        total: Heatmap = (asked / (usual + FLOOR)).sum(axis=0).astype(np.float32)
        return total.reshape(state.grid.rows, state.grid.cols)
