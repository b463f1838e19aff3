"""What every way of finding the crop window is: a request's state in, a box and perhaps a heatmap out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from vicrop_engine.arrays import Heatmap
from vicrop_engine.engine_dir.manifest import TENSORRT, Manifest
from vicrop_engine.errors import SettingError
from vicrop_engine.images.geometry import Box, Grid
from vicrop_engine.vicrop.request_state import RequestState


@dataclass(frozen=True)
class Localization:
    """Where to look: a box in picture pixels, the method that found it, and its heatmap if it made one.

    `grid` says how the heatmap lies on the picture, as the state's when None; `tiles` are the boxes it was
    put together from, none when the picture was looked at as it is. Outside its `parts`, boxes in picture
    pixels, the crop is black; where there are none, all of it is shown.
    """

    method: str
    box: Box
    heatmap: Heatmap | None = None
    layers: tuple[int, ...] = ()
    grid: Grid | None = None
    tiles: tuple[Box, ...] = ()
    parts: tuple[Box, ...] = ()


class Localizer(Protocol):
    """One way of finding the crop window."""

    def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
        """The layers whose attention it needs for a picture of `size` (width, height); often none."""

    def locate(self, state: RequestState) -> Localization:
        """The window for this request."""


@runtime_checkable
class ChecksEngine(Protocol):
    """A localizer that not every engine can run."""

    def check(self, manifest: Manifest) -> None:
        """Raises SettingError, or LayerError, when this engine has not what it needs."""


@runtime_checkable
class Divides(Protocol):
    """A localizer that divides by the general prompt's attention, and can hold the divisor to a floor."""

    @property
    def divisor_floor(self) -> float | None:
        """What the divisor is at least, as a share of its mean; None for whatever it is."""


def check_target(method: str, manifest: Manifest) -> None:
    """Raises SettingError for a method whose graph is built for processors only."""
    if manifest.target == TENSORRT:
        raise SettingError(
            f"method {method!r} needs gradients, which engines for target {TENSORRT!r} do not have; take "
            f"rel-att, or 'vicrop-engine build {manifest.model.name} --target cpu'"
        )
    if manifest.target != "cpu":
        raise SettingError(
            f"method {method!r} is not in engines for {manifest.target} yet; take rel-att, or an engine from "
            f"'vicrop-engine build {manifest.model.name} --target cpu'"
        )
