"""The crop window that the user gives: the paper's human crop."""

from __future__ import annotations

from dataclasses import dataclass

from vicrop_engine.images.geometry import Box
from vicrop_engine.vicrop.localizers.localizer import Localization
from vicrop_engine.vicrop.request_state import RequestState


@dataclass(frozen=True)
class GivenBox:
    """The user's own box."""

    box: Box

    def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
        """None."""
        return ()

    def locate(self, state: RequestState) -> Localization:
        """The box as it was given."""
        return Localization("box", self.box)
