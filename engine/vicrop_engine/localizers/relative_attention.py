"""rel-att: where the question looks more than the general prompt does."""

from __future__ import annotations

from dataclasses import dataclass

from vicrop_engine.crop import find_box, fits_window, outside_zeroed
from vicrop_engine.localizers.localizer import Localization
from vicrop_engine.reading import Reading
from vicrop_kernels.numpy_heatmap import heatmap


@dataclass(frozen=True)
class RelativeAttention:
    """rel-att: the question's attention over the general prompt's, at `layers` (arXiv 2502.17422).

    A picture within one window is its own crop, with no heatmap, unless `always` asks for one.
    """

    layers: tuple[int, ...]
    always: bool = False

    def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
        """Its layers, unless the picture is its own crop."""
        return () if fits_window(size, window) and not self.always else self.layers

    def locate(self, reading: Reading) -> Localization:
        """Heatmap and box from one attention row of the question and one of the general prompt."""
        crop = reading.model.manifest.crop
        size = reading.picture.size
        if not self.layers_read(size, crop.window):
            return Localization("rel-att", (0, 0, *size))
        asked, usual = reading.question_rows(), reading.general_rows()
        reading.watch.enter("heatmap")
        grid = reading.grid
        relative = outside_zeroed(heatmap(asked[None], usual[None], grid.rows, grid.cols)[0], grid)
        box = find_box(relative, grid, size, crop.window, crop.ratios)
        return Localization("rel-att", box, relative, self.layers)
