"""pure-grad: where the answer to the question hangs on the pixels more than the general prompt's does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from vicrop_engine.arrays import Heatmap
from vicrop_engine.engine_dir.manifest import Manifest
from vicrop_engine.errors import SettingError
from vicrop_engine.families.table import family_type
from vicrop_engine.images.high_pass import MEDIAN, Mask, picture_detail, seen_detail
from vicrop_engine.vicrop.crop import fits_window
from vicrop_engine.vicrop.localizers.heatmap_search import search_heatmap
from vicrop_engine.vicrop.localizers.localizer import Localization, check_target
from vicrop_engine.vicrop.request_state import PassTargets, RequestState

FLOOR, CEILING = 1e-30, 1e30  # weakest general gradient that counts, and largest ratio: sums stay finite


@dataclass(frozen=True)
class PureGradient:
    """pure-grad: gradients at the pixels, the question's over the general prompt's (arXiv 2502.17422).

    Only pixels of fine detail count, by a high-pass with a median filter of `median` pixels (7 in the
    published code, 3 in the paper). With `compat` that is of the whole picture stretched to the model's
    input, as published; else of the picture as the model sees it, so that both lie on each other. A picture
    within one window is its own crop, except with `compat`.
    """

    compat: bool = False
    median: int = MEDIAN
    method: str = "pure-grad"
    evens_tiles: ClassVar[bool] = True  # as rel-att's, a ratio to what a tile is looked at in general
    layers: tuple[int, ...] = ()

    @property
    def targets_of_tile(self) -> PassTargets:
        """Nothing of the decoders: its own graph does it all."""
        return PassTargets(answer=False, layers=())

    def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
        """None."""
        return ()

    def check(self, manifest: Manifest) -> None:
        """Raises SettingError when the engine has no gradients at the pixels."""
        check_target(self.method, manifest)
        if not family_type(manifest).takes_pixel_gradients:
            raise SettingError(
                f"method 'pure-grad' goes back to the pixels, which family {manifest.family.name!r} has no "
                "graph for; take rel-att or grad-att"
            )
        if not manifest.has_pixel_gradients:
            raise SettingError(
                "method 'pure-grad' needs the graph pure_grad.onnx and this engine was built without it; "
                f"rebuild it with 'vicrop-engine build {manifest.model.name} --pure-grad --force'"
            )

    def locate(self, state: RequestState) -> Localization:
        """The window in the heatmap; the whole of a picture that is its own crop."""
        size = state.picture.size
        if fits_window(size, state.model.manifest.crop.window) and not self.compat:
            return Localization(self.method, (0, 0, *size))
        return search_heatmap(self, state)

    def heatmap(self, state: RequestState) -> Heatmap:
        """From one pass to the question's and the general prompt's answer, and back."""
        state.watch.enter("heatmap")
        asked, usual = state.gradient_strengths()
        patch_size = state.model.manifest.vision.patch_size
        return gradient_heatmap(asked, usual, self._detail(state), patch_size)

    def _detail(self, state: RequestState) -> Mask:
        if self.compat:
            side = state.model.manifest.vision.image_size
            return picture_detail(state.picture.image, side, self.median)
        seen = state.seen
        return seen_detail(seen.inputs.pixels, seen.placement, state.model.preprocessing.std, self.median)


def gradient_heatmap(
    asked: npt.NDArray[np.float32], usual: npt.NDArray[np.float32], detail: Mask, patch_size: int
) -> Heatmap:
    """Means over patches [rows, cols] of asked / usual where there is `detail`, always finite.

    All are [height, width]; gradients are of whole patches, and detail beyond them is left out.
    """
    height, width = asked.shape
    ratio = np.minimum(asked / np.maximum(usual, FLOOR, dtype=np.float64), CEILING)
    ratio *= detail[:height, :width]
    cells = ratio.reshape(height // patch_size, patch_size, width // patch_size, patch_size)
    return np.asarray(cells.mean(axis=(1, 3)), np.float32)
