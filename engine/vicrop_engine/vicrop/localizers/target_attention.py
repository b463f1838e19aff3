"""target: where the last word of the thing asked for looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vicrop_engine.arrays import Heatmap
from vicrop_engine.vicrop.crop import fits_window
from vicrop_engine.vicrop.localizers.heatmap_search import search_heatmap
from vicrop_engine.vicrop.localizers.localizer import Localization
from vicrop_engine.vicrop.request_state import PassTargets, RequestState


@dataclass(frozen=True)
class TargetAttention:
    """target: the attention of the target's last token at `layers`, undivided (after arXiv 2603.00171).

    One short prompt, "Where is the …" cut after the target, and no general one. A picture within one window
    is its own crop, with no heatmap, unless `always` asks for one.
    """

    layers: tuple[int, ...]
    always: bool = False
    method: ClassVar[str] = "target"
    evens_tiles: ClassVar[bool] = False  # how much a tile is looked at at all is what is asked

    @property
    def targets_of_tile(self) -> PassTargets:
        """The target's attention rows alone: a tile stops at the highest heatmap layer."""
        return PassTargets(answer=False, layers=self.layers, of_target=True)

    def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
        """Its layers, unless the picture is its own crop."""
        return () if fits_window(size, window) and not self.always else self.layers

    def locate(self, state: RequestState) -> Localization:
        """The window in the heatmap; the whole of a picture that is its own crop."""
        size = state.picture.size
        if not self.layers_read(size, state.model.manifest.crop.window):
            return Localization(self.method, (0, 0, *size))
        return search_heatmap(self, state)

    def heatmap(self, state: RequestState) -> Heatmap:
        """The mean of one attention row over layers and heads."""
        rows = state.question_rows()
        state.watch.enter("heatmap")
        mean: Heatmap = rows.mean(axis=(0, 1), dtype="float64").astype("float32")
        return mean.reshape(state.grid.rows, state.grid.cols)
