"""rel-att: where the question looks more than the general prompt does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vicrop_engine.arrays import Heatmap
from vicrop_engine.vicrop.crop import fits_window
from vicrop_engine.vicrop.localizers.device_search import search_on_device
from vicrop_engine.vicrop.localizers.heatmap_search import search_heatmap
from vicrop_engine.vicrop.localizers.localizer import Localization
from vicrop_engine.vicrop.request_state import PassTargets, RequestState
from vicrop_kernels.numpy_heatmap import heatmap


@dataclass(frozen=True)
class RelativeAttention:
    """rel-att: the question's attention over the general prompt's, at `layers` (arXiv 2502.17422).

    A picture within one window is its own crop, with no heatmap, unless `always` asks for one.
    """

    layers: tuple[int, ...]
    always: bool = False
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
        if state.model.device is not None and state.takes_rows_as_they_are:
            return search_on_device(self, state, state.model.device)
        return search_heatmap(self, state)

    def heatmap(self, state: RequestState) -> Heatmap:
        """From one attention row of the question and one of the general prompt, per layer."""
        asked, usual = state.question_rows(), state.general_rows()
        state.watch.enter("heatmap")
        relative: Heatmap = heatmap(asked[None], usual[None], state.grid.rows, state.grid.cols)[0]
        return relative
