"""What a crop has to be worth: examples asked without and with every crop, and the curve read from them.

Knows answers and counters; how an example is asked is the engine's. Costs are tokens times decoder layers,
the vision tower being as many layers as its weights make; products of attention are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vicrop_engine.counters import Counters
from vicrop_engine.engine_dir.manifest import Manifest
from vicrop_engine.engine_dir.records import Calibration, CurvePoint
from vicrop_engine.errors import ExamplesError
from vicrop_engine.images.picture import ImageInput
from vicrop_engine.vicrop.answer import Answer

ONE_SIDED_95 = 1.645
BACKWARD = 3  # a pass that goes back to its input costs as much as three forward
MOST_POINTS = 40


@dataclass(frozen=True)
class Trial:
    """One example, asked without and with the crop: which answers are right, and what told them apart.

    `confidence` is the first answer's geometric mean probability, with which `worth` is to be compared.
    `aside` is the cost beyond a plain answer of knowing what the crop is worth, `crop` that of making it.
    """

    worth: float
    confidence: float
    first: bool
    final: bool
    aside: int
    crop: int


class Asks(Protocol):
    """What answers: the engine."""

    @property
    def manifest(self) -> Manifest:
        """What it is."""

    @property
    def counters(self) -> Counters:
        """What it has run."""

    def ask(
        self, image: ImageInput, question: str, *, method: str, high_res: str, crop_tokens: str | int = ...
    ) -> Answer:
        """The answer to a question."""


def try_examples(
    engine: Asks,
    examples: Iterable[tuple[ImageInput, str, str]],
    method: str,
    crop_tokens: str | int = "all",
) -> Iterable[Trial]:
    """A trial of each (image, question, right answer). The engine must keep no pictures (`cache_bytes=0`)."""
    manifest = engine.manifest
    for image, question, right in examples:
        start = engine.counters
        plain = engine.ask(image, question, method="none", high_res="off")
        middle = engine.counters
        cropped = engine.ask(image, question, method=method, high_res="off", crop_tokens=crop_tokens)
        extra = cost(middle, engine.counters, manifest) - cost(start, middle, manifest)
        tokens = cropped.tokens.crop + len(cropped.token_ids) - 1
        crop = tokens * manifest.decoder.num_layers + vision_cost(manifest)
        assert cropped.crop_worth is not None, "the first answer was asked for"
        yield Trial(
            cropped.crop_worth,
            plain.confidence,
            is_right(plain.answer, right),
            is_right(cropped.answer, right),
            round(extra - crop),
            round(crop),
        )


def cost(before: Counters, after: Counters, manifest: Manifest) -> float:
    """Tokens times the decoder layers they went through between two counts, pictures' patches included."""

    def new(name: str) -> int:
        return int(getattr(after, name) - getattr(before, name))

    decoder = manifest.decoder
    upper = decoder.num_layers - decoder.num_lower_layers
    back = new("pixel_gradient_tokens") + new("gradient_passes")  # a gradient pass is of one token
    forward = new("lower_tokens") * decoder.num_lower_layers + new("upper_tokens") * upper
    return forward + BACKWARD * back * decoder.num_layers + new("vision_images") * vision_cost(manifest)


def vision_cost(manifest: Manifest) -> float:
    """One picture's patches times decoder layers as heavy as the vision tower; 0 where that is unknown."""
    files = [manifest.files.get(f"{graph}.onnx.data") for graph in ("vision", "decoder_lower")]
    vision, lower = (0 if file is None else file.size for file in files)
    layers = vision / lower * manifest.decoder.num_lower_layers if lower else 0.0
    return manifest.vision.rows * manifest.vision.cols * layers


def is_right(answer: str, right: str) -> bool:
    """Whether an answer is the right one but for case and a full stop."""
    return answer.strip().rstrip(".").casefold() == right.strip().rstrip(".").casefold()


def calibrated(method: str, trials: Sequence[Trial], keeps: float) -> Calibration:
    """The highest threshold that keeps the share `keeps` of what cropping always gains.

    It and all below it do so with 95 % confidence. Raises ExamplesError where cropping gains nothing.
    """
    first = sum(trial.first for trial in trials)
    always = sum(trial.final for trial in trials)
    if always <= first:
        raise ExamplesError(
            f"the crop gains nothing on these examples, of which {first} of {len(trials)} are right without "
            f"it and {always} with it; calibrate on some whose details are too small to read"
        )
    curve = full_curve(trials, [trial.worth for trial in trials])
    kept = _keeping(trials, curve, keeps)
    chosen = curve[kept]
    count = len(trials)
    return Calibration(
        method,
        chosen.threshold,
        keeps,
        count,
        first / count,
        always / count,
        chosen.accuracy,
        chosen.cost,
        thinned(curve, kept),
    )


def full_curve(trials: Sequence[Trial], worth: Sequence[float], *, aside: bool = True) -> list[CurvePoint]:
    """A point for every threshold on `worth` that tells trials apart, from every crop to none.

    Without `aside`, finding out what a crop is worth costs nothing where none is made.
    """
    values = np.asarray(worth, np.float64)
    right = np.array([(trial.first, trial.final) for trial in trials], np.int64)
    costs = np.array([(trial.aside, trial.crop) for trial in trials], np.int64)
    unmade, made_cost = costs[:, 0] * aside, costs.sum(axis=1)
    points = []
    for threshold in thresholds(values):
        made = values >= threshold
        hits = int(np.where(made, right[:, 1], right[:, 0]).sum())
        share = float(np.where(made, made_cost, unmade).sum() / made_cost.sum())
        points.append(CurvePoint(threshold, share, hits / len(trials)))
    return points


def thresholds(values: npt.NDArray[np.float64]) -> list[float]:
    """0, the middles between neighbouring values, and a number above them all."""
    distinct = np.unique(values)
    middles = (distinct[1:] + distinct[:-1]) / 2
    return [0.0, *middles.tolist(), float(distinct[-1]) + 1.0]


def thinned(curve: Sequence[CurvePoint], kept: int) -> tuple[CurvePoint, ...]:
    """At most MOST_POINTS of a curve and the one that is `kept`, even in cost."""
    wanted = np.linspace(curve[0].cost, curve[-1].cost, MOST_POINTS)
    costs = np.array([point.cost for point in curve])
    nearest = {int(np.abs(costs - cost).argmin()) for cost in wanted}
    return tuple(curve[number] for number in sorted(nearest | {0, kept, len(curve) - 1}))


def _keeping(trials: Sequence[Trial], curve: Sequence[CurvePoint], keeps: float) -> int:
    """Index of the last point before the first that may keep less.

    What is kept less the share to keep, summed over trials, is above 0 by the error of such a sum.
    """
    worth = np.array([trial.worth for trial in trials])
    gain = np.array([int(trial.final) - int(trial.first) for trial in trials])
    for number, point in enumerate(curve):
        spare = gain * ((worth >= point.threshold) - keeps)
        if number and spare.mean() < ONE_SIDED_95 * spare.std() / len(trials) ** 0.5:
            return number - 1
    return len(curve) - 1
