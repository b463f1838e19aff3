"""Ways to find the crop window, behind one protocol: a reading in, a box and perhaps a heatmap out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vicrop_engine.crop import Heatmap, find_box, fits_window, outside_zeroed
from vicrop_engine.errors import UnknownMethodError, one_of
from vicrop_engine.image import Box
from vicrop_engine.reading import Reading
from vicrop_kernels.numpy_heatmap import heatmap

METHODS = ("none", "rel-att")
LATER_METHODS = ("grad-att", "pure-grad", "clip", "yolo", "sam")


@dataclass(frozen=True)
class Localization:
    """Where to look: a box in picture pixels, the method that found it, and its heatmap if it made one."""

    method: str
    box: Box
    heatmap: Heatmap | None = None
    layers: tuple[int, ...] = ()


class Localizer(Protocol):
    """One way of finding the crop window."""

    def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
        """The layers whose attention it needs for a picture of `size` (width, height); often none."""

    def locate(self, reading: Reading) -> Localization:
        """The window for this reading."""


@dataclass(frozen=True)
class GivenBox:
    """The user's own box."""

    box: Box

    def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
        """None."""
        return ()

    def locate(self, reading: Reading) -> Localization:
        """The box as it was given."""
        return Localization("box", self.box)


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


def check_method(method: str) -> None:
    """Raises UnknownMethodError unless `method` exists in this version."""
    if method in LATER_METHODS:
        raise UnknownMethodError(f"method {method!r} is not built yet; this version has {', '.join(METHODS)}")
    if method not in METHODS:
        raise UnknownMethodError(one_of("method", str(method), METHODS))
