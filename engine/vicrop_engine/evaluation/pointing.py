"""How well crops point: against boxes of where the answer stands. Arithmetic on boxes alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vicrop_engine.evaluation.intervals import Values, bootstrap
from vicrop_engine.evaluation.marks import Answered, Figure
from vicrop_engine.images.geometry import Box

MEASURES = {
    "iou": "IoU of the crop and the answer's box",
    "inside": "share of the answer's box inside the crop",
    "filled": "answer's box ÷ crop area",
}


@dataclass(frozen=True)
class Pointing:
    """Of one crop, each 0 to 1 but for `filled`: several boxes count as the smallest that holds them all."""

    iou: float
    inside: float
    filled: float


def pointing(crop: Box, boxes: Sequence[Box]) -> Pointing:
    """How a crop lies to what it should show."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    wanted = min(lefts), min(tops), max(rights), max(bottoms)
    shared = _area(
        (max(crop[0], wanted[0]), max(crop[1], wanted[1]), min(crop[2], wanted[2]), min(crop[3], wanted[3]))
    )
    own, other = _area(crop), _area(wanted)
    return Pointing(shared / (own + other - shared), shared / other, other / own)


def pointing_figures(answered: Sequence[Answered]) -> dict[str, Figure]:
    """The mean of each measure in percent, with the bootstrap's interval."""
    found = [pointing(tuple(each.line["crop_box"]), each.boxes) for each in answered if each.boxes]
    return {name: _figure([getattr(each, name) for each in found]) for name in MEASURES} if found else {}


def _figure(shares: Sequence[float]) -> Figure:
    values = np.array(shares, np.float64)
    mean = _mean_of(values)
    low, high = bootstrap(mean, len(values))
    return Figure(len(values), *(100 * number for number in (float(values.mean()), low, high)))


def _mean_of(values: Values) -> Callable[[Values], float]:
    return lambda weights: float(values @ weights / weights.sum())


def _area(box: Box) -> int:
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])
