"""grad-att: where more attention would make the model surer of its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vicrop_engine.arrays import Heatmap
from vicrop_engine.engine_dir.manifest import Manifest
from vicrop_engine.errors import LayerError, SettingError
from vicrop_engine.vicrop.crop import fits_window
from vicrop_engine.vicrop.localizers.heatmap_search import search_heatmap
from vicrop_engine.vicrop.localizers.localizer import Localization, check_target
from vicrop_engine.vicrop.request_state import PassTargets, RequestState
from vicrop_kernels.numpy_heatmap import gradient_heatmap


@dataclass(frozen=True)
class GradientAttention:
    """grad-att: attention times the gradient at it of the answer's likelihood (arXiv 2502.17422).

    The likelihood is that of the likeliest first token; only gradients above zero count. A picture within one
    window is its own crop, with no heatmap, unless `always` asks for one.
    """

    layers: tuple[int, ...]
    always: bool = False
    method: str = "grad-att"
    evens_tiles: ClassVar[bool] = True  # how steep a tile's loss is sets its gradients' scale

    @property
    def targets_of_tile(self) -> PassTargets:
        """Rows with gradients: the loss is at the top, so a tile goes through all layers."""
        return PassTargets(answer=False, layers=self.layers, gradients=True)

    def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
        """Its layers, unless the picture is its own crop."""
        return () if fits_window(size, window) and not self.always else self.layers

    def check(self, manifest: Manifest) -> None:
        """Raises SettingError when the engine has no gradients, LayerError when it has none so low."""
        build = f"'vicrop-engine build {manifest.model.name}"
        check_target(self.method, manifest)
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

    def locate(self, state: RequestState) -> Localization:
        """The window in the heatmap; the whole of a picture that is its own crop."""
        size = state.picture.size
        if not self.layers_read(size, state.model.manifest.crop.window):
            return Localization(self.method, (0, 0, *size))
        return search_heatmap(self, state)

    def heatmap(self, state: RequestState) -> Heatmap:
        """From one token's way through the upper layers and back; of cells that are mixed, on to these."""
        attention, gradient = state.gradient_rows()
        state.watch.enter("heatmap")
        grid = state.grid
        helpful: Heatmap = gradient_heatmap(attention[None], gradient[None], grid.rows, grid.cols)[0]
        return helpful
