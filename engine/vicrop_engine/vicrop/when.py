"""Whether to crop and where: the first answer's uncertainty against what a crop can be worth.

What is decided here needs no token of the first answer to be decoded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vicrop_engine.arrays import Heatmap
from vicrop_engine.images.geometry import Box, Grid
from vicrop_engine.vicrop.localizers.localizer import Localization
from vicrop_engine.vicrop.request import Request
from vicrop_engine.vicrop.request_state import RequestState


@dataclass(frozen=True)
class CropDecision:
    """What looking came to: where the crop would be, None where nothing was looked for, and if it `crops`.

    `worth` is what the crop is worth, the most it can be where nothing was looked for, and None where the
    pass over the picture was not for an answer.
    """

    found: Localization | None
    worth: float | None
    crops: bool

    @property
    def chosen(self) -> Localization | None:
        """What to crop to."""
        return self.found if self.crops else None

    @property
    def box(self) -> Box | None:
        """The window to crop to."""
        return None if self.chosen is None else self.chosen.box


def choose_crop(state: RequestState, request: Request) -> CropDecision:
    """Heatmap to window, and whether that is worth a crop: in any case where the request has no threshold.

    Without a localizer there is no crop. A first answer whose uncertainty alone is below the threshold is not
    looked any further into.
    """
    localizer, threshold = request.localizer, request.threshold
    if localizer is None:
        return CropDecision(None, None, False)
    if threshold is not None and (unsure := answer_uncertainty(state.first_logits())) < threshold:
        return CropDecision(None, unsure, False)
    found = localizer.locate(state)
    if not state.targets.answer:
        return CropDecision(found, None, True)
    worth = answer_uncertainty(state.first_logits()) * crop_prospect(found, state)
    return CropDecision(found, worth, threshold is None or worth >= threshold)


def crop_prospect(found: Localization, state: RequestState) -> float:
    """How far a window can be trusted to show something new: its heatmap's concentration, else 1.

    The whole picture, all of it shown, shows nothing new.
    """
    if found.box == (0, 0, *state.picture.size) and not found.parts:
        return 0.0
    return 1.0 if found.heatmap is None else heatmap_concentration(found.heatmap, found.grid or state.grid)


def answer_uncertainty(logits: npt.NDArray[np.floating]) -> float:
    """1 less the margin between the probabilities of the two likeliest tokens of `logits` [vocab].

    0 when only one token can come next, 1 when two are equally likely.
    """
    shifted = logits.astype(np.float64) - float(logits.max())
    weights = np.exp(shifted, out=shifted)
    second, first = np.partition(weights, -2)[-2:] / weights.sum()
    return float(1.0 - (first - second))


def heatmap_concentration(heatmap: Heatmap, grid: Grid) -> float:
    """How far a heatmap [rows, cols] is gathered in one of the cells that touch the picture.

    The logarithm of the largest value over their mean, over the logarithm of their number: 0 when all are
    equal, 1 when one cell holds everything.
    """
    inside = heatmap[grid.first_row : grid.last_row, grid.first_col : grid.last_col].astype(np.float64)
    mean, peak = float(inside.mean()), float(inside.max())
    if mean <= 0 or inside.size == 1:
        return 0.0
    return max(0.0, math.log(peak / mean) / math.log(inside.size))
