"""A localizer that the caller wrote, and a check of what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vicrop_engine.errors import LocalizerError
from vicrop_engine.vicrop.localizers.localizer import Localization, Localizer
from vicrop_engine.vicrop.request_state import RequestState


@dataclass(frozen=True)
class OwnLocalizer:
    """Asks another localizer and refuses an answer that cannot be used."""

    localizer: Localizer
    num_layers: int

    def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
        """Those of the other one. Raises LocalizerError for what is no tuple of the decoder's layers."""
        layers = self.localizer.layers_read(size, window)
        known = range(self.num_layers)
        if not isinstance(layers, tuple) or not all(
            type(layer) is int and layer in known for layer in layers
        ):
            raise LocalizerError(
                f"{self._name}.layers_read gave {layers!r}, wanted a tuple of layers from 0 to "
                f"{self.num_layers - 1}, or ()"
            )
        return layers

    def locate(self, state: RequestState) -> Localization:
        """What the other one finds. Raises LocalizerError unless it is a box inside the picture."""
        state.watch.enter("heatmap")
        found = self.localizer.locate(state)
        if not isinstance(found, Localization):
            raise LocalizerError(f"{self._name}.locate gave {type(found).__name__}, wanted a Localization")
        width, height = state.picture.size
        whole = len(found.box) == 4 and all(isinstance(side, (int, np.integer)) for side in found.box)
        x0, y0, x1, y1 = found.box if whole else (0, 0, 0, 0)
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise LocalizerError(
                f"{self._name}.locate gave the box {found.box!r}, wanted whole numbers x0, y0, x1, y1 inside "
                f"the picture of {width} x {height} pixels"
            )
        box = int(x0), int(y0), int(x1), int(y1)
        return replace(found, box=box)

    @property
    def _name(self) -> str:
        return type(self.localizer).__name__
