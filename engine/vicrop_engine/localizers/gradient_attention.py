"""grad-att: where more attention would make the model surer of its answer."""

from __future__ import annotations

from dataclasses import dataclass

from vicrop_engine.crop import find_box, fits_window, outside_zeroed
from vicrop_engine.errors import LayerError, SettingError
from vicrop_engine.localizers.localizer import Localization
from vicrop_engine.manifest import Manifest
from vicrop_engine.reading import Reading
from vicrop_kernels.numpy_heatmap import gradient_heatmap


@dataclass(frozen=True)
class GradientAttention:
    """grad-att: attention times the gradient at it of the answer's likelihood (arXiv 2502.17422).

    The likelihood is that of the likeliest first token; only gradients above zero count. A picture within one
    window is its own crop, with no heatmap, unless `always` asks for one.
    """

    layers: tuple[int, ...]
    always: bool = False

    def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
        """Its layers, unless the picture is its own crop."""
        return () if fits_window(size, window) and not self.always else self.layers

    def check(self, manifest: Manifest) -> None:
        """Raises SettingError when the engine has no gradients, LayerError when it has none so low."""
        build = f"'vicrop-engine build {manifest.model.name}"
        if not manifest.has_gradient:
            raise SettingError(
                "method 'grad-att' needs the graph grad_att.onnx and this engine was built without it; "
                f"rebuild it with {build} --force'"
            )
        first, lowest = min(manifest.crop.layers), min(self.layers)
        if lowest < first:
            raise LayerError(
                f"layer {lowest} is below {first}, the lowest this engine has gradients for; take others, or "
                f"rebuild it with {build} --layers {lowest} --force'"
            )

    def locate(self, reading: Reading) -> Localization:
        """Heatmap and box from one token's way through the upper layers and back."""
        crop = reading.model.manifest.crop
        size = reading.picture.size
        if not self.layers_read(size, crop.window):
            return Localization("grad-att", (0, 0, *size))
        attention, gradient = reading.gradient_rows()
        reading.watch.enter("heatmap")
        grid = reading.grid
        helpful = gradient_heatmap(attention[None], gradient[None], grid.rows, grid.cols)[0]
        helpful = outside_zeroed(helpful, grid)
        box = find_box(helpful, grid, size, crop.window, crop.ratios)
        return Localization("grad-att", box, helpful, self.layers)
