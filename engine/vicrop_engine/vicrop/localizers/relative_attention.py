"""rel-att: where the question looks more than the general prompt does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vicrop_engine.arrays import Floats, Heatmap
from vicrop_engine.images.geometry import Grid
from vicrop_engine.vicrop.crop import fits_window
from vicrop_engine.vicrop.localizers.device_search import search_on_device
from vicrop_engine.vicrop.localizers.heatmap_search import search_heatmap
from vicrop_engine.vicrop.localizers.localizer import Localization
from vicrop_engine.vicrop.request_state import PassTargets, RequestState
from vicrop_kernels.numpy_heatmap import heatmap


@dataclass(frozen=True)
class RelativeAttention:
    """rel-att: the question's attention over the general prompt's, at `layers` (arXiv 2502.17422).

    A picture within one window is its own crop, with no heatmap, unless `always` asks for one. With a
    `divisor_floor` the general prompt's attention counts as at least this share of its mean over the picture,
    layer by layer, so that a place at which nothing ever looks, such as empty sky, cannot win by its divisor.
    """

    layers: tuple[int, ...]
    always: bool = False
    divisor_floor: float | None = None
    method: ClassVar[str] = "rel-att"
    evens_tiles: ClassVar[bool] = (
        True  # how much the general prompt looks at a tile at all sets its ratios' scale
    )

    @property
    def targets_of_tile(self) -> PassTargets:
        """Attention rows alone: a tile stops at the highest heatmap layer."""
        return PassTargets(answer=False, layers=self.layers)

    def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
        """Its layers, unless the picture is its own crop."""
        return () if fits_window(size, window) and not self.always else self.layers

    def locate(self, state: RequestState) -> Localization:
        """The window in the heatmap; the whole of a picture that is its own crop."""
        size = state.picture.size
        if not self.layers_read(size, state.model.manifest.crop.window):
            return Localization(self.method, (0, 0, *size))
        device = state.model.device if self.divisor_floor is None else None
        if device is not None and state.takes_rows_as_they_are:
            return search_on_device(self, state, device)
        return search_heatmap(self, state)

    def heatmap(self, state: RequestState) -> Heatmap:
        """From one attention row of the question and one of the general prompt, per layer."""
        asked, usual = state.question_rows(), state.general_rows()
        state.watch.enter("heatmap")
        if self.divisor_floor is not None:
            usual = floored(usual, state.grid, self.divisor_floor)
        relative: Heatmap = heatmap(asked[None], usual[None], state.grid.rows, state.grid.cols)[0]
        return relative


def floored(usual: Floats, grid: Grid, share: float) -> Floats:
    """Attention rows [layers, heads, patches] whose mean over heads is nowhere below a floor.

    The floor is `share` of that mean's own mean over the cells that touch the picture, for each layer by
    itself. All heads are given the mean over heads, which is all that a divisor is read for.
    """
    mean = usual.mean(axis=1, keepdims=True, dtype=np.float64)
    cells = mean.reshape(len(usual), grid.rows, grid.cols)
    inside = cells[:, grid.first_row : grid.last_row, grid.first_col : grid.last_col]
    floor = share * inside.mean(axis=(1, 2))[:, None, None]
    return np.broadcast_to(np.maximum(mean, floor), usual.shape).astype(np.float32)
