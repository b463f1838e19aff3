"""How well each decoder layer points: windows and heatmaps of every layer against places that are known.

Knows heatmaps and boxes; how an example is asked is the engine's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from vicrop_engine.arrays import Heatmap
from vicrop_engine.examples import Example
from vicrop_engine.images.geometry import Box, Grid
from vicrop_engine.vicrop.crop import find_box, outside_zeroed
from vicrop_engine.vicrop.localizers.localizer import Localization, Localizer
from vicrop_engine.vicrop.request_state import RequestState
from vicrop_kernels.numpy_heatmap import heatmap

ALL = "all"


@dataclass(frozen=True)
class LayerScore:
    """How one layer, or the mean of "all", points.

    `holds` is the share of windows that hold the middle of the example's box; `contrast` the median ratio of
    the heatmap's mean inside the box to its mean over the picture: 1 is chance.
    """

    layer: str
    holds: float
    contrast: float


@dataclass
class LayerSurvey:
    """A localizer that makes the rel-att heatmap and window of every layer and of their mean in one pass."""

    num_layers: int
    heatmaps: dict[str, Heatmap] = field(default_factory=dict)
    boxes: dict[str, Box] = field(default_factory=dict)
    grid: Grid | None = None

    def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
        """All of them."""
        return tuple(range(self.num_layers))

    def locate(self, state: RequestState) -> Localization:
        """The window of the mean; `heatmaps` and `boxes` then hold this picture's, by layer."""
        asked, usual = state.question_rows(), state.general_rows()
        crop, self.grid = state.model.manifest.crop, state.grid
        chosen = {str(layer): slice(layer, layer + 1) for layer in range(self.num_layers)}
        for name, part in (chosen | {ALL: slice(None)}).items():
            values = heatmap(asked[None, part], usual[None, part], self.grid.rows, self.grid.cols)[0]
            self.heatmaps[name] = outside_zeroed(values, self.grid)
            self.boxes[name] = find_box(
                self.heatmaps[name], self.grid, state.picture.size, crop.window, crop.ratios
            )
        every = self.layers_read(state.picture.size, crop.window)
        return Localization("rel-att", self.boxes[ALL], self.heatmaps[ALL], every, self.grid)


class Locates(Protocol):
    """What finds a window without answering: the engine."""

    def locate(self, image: Path, question: str, *, method: Localizer, high_res: str) -> Localization:
        """The localizer's window for a picture."""


def score_layers(
    engine: Locates, num_layers: int, examples: Iterable[tuple[Path, Example]]
) -> list[LayerScore]:
    """Each layer from 0 up, then "all". Raises what the engine raises for an example."""
    survey = LayerSurvey(num_layers)
    held: dict[str, list[bool]] = {}
    contrasts: dict[str, list[float]] = {}
    for path, example in examples:
        engine.locate(path, example.question, method=survey, high_res="off")
        assert survey.grid is not None, "the survey has looked"
        for name, box in survey.boxes.items():
            held.setdefault(name, []).append(_holds(box, example.box))
            contrasts.setdefault(name, []).append(contrast(survey.heatmaps[name], survey.grid, example.box))
    return [
        LayerScore(name, float(np.mean(values)), float(np.median(contrasts[name])))
        for name, values in held.items()
    ]


def best_layer(scores: Iterable[LayerScore]) -> LayerScore:
    """The one whose windows hold most; of equals the one with the most contrast."""
    return max(scores, key=lambda score: (score.holds, score.contrast))


def contrast(values: Heatmap, grid: Grid, box: Box) -> float:
    """Mean of the heatmap in the cells that a box touches over its mean in those that the picture touches."""
    rows = _touched(box[1], box[3], grid.top, grid.cell_height, (grid.first_row, grid.last_row))
    cols = _touched(box[0], box[2], grid.left, grid.cell_width, (grid.first_col, grid.last_col))
    whole = values[grid.first_row : grid.last_row, grid.first_col : grid.last_col].mean()
    return float(values[rows, cols].mean() / whole) if whole > 0 else 1.0


def _touched(start: int, stop: int, origin: float, cell: float, within: tuple[int, int]) -> slice:
    first = min(max(math.floor((start - origin) / cell), within[0]), within[1] - 1)
    return slice(first, max(first + 1, min(math.ceil((stop - origin) / cell), within[1])))


def _holds(window: Box, box: Box) -> bool:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return window[0] <= x < window[2] and window[1] <= y < window[3]
