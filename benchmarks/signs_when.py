"""What `--when auto` and fewer crop tokens keep of the crop's gain, and at what cost: for signs_eval.py.

Every picture is asked plainly, with the crop, and with `auto`, each on an engine that keeps nothing. Nothing
is reported unless `auto` answered each question as one of the others did, at the cost that was foretold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from vicrop_engine import Answer, RequestState, ViCropEngine
from vicrop_engine.drawing.curve import Line, draw_curves
from vicrop_engine.engine_dir.records import CurvePoint
from vicrop_engine.images.picture import ImageInput
from vicrop_engine.measure.calibration import Trial, cost, full_curve, is_right, try_examples
from vicrop_engine.vicrop.localizers.localizer import Localization
from vicrop_engine.vicrop.localizers.relative_attention import RelativeAttention
from vicrop_engine.vicrop.when import answer_uncertainty, heatmap_concentration

Example = tuple[ImageInput, str, str]
KEPT = 0.95


@dataclass(frozen=True)
class Measured:
    """One method with one number of crop tokens: trials, and what `auto` really did."""

    name: str
    trials: Sequence[Trial]
    right: Sequence[bool]
    crops: Sequence[bool]
    extra: float

    @property
    def whole(self) -> int:
        """What every crop costs beyond plain answers."""
        return sum(trial.aside + trial.crop for trial in self.trials)


def measure(
    engine: ViCropEngine, examples: Iterable[Example], method: str, tokens: Sequence[str]
) -> list[Measured]:
    """Every number of crop tokens, always and when auto. Raises AssertionError where they do not agree."""
    found: dict[str, tuple[list[Trial], list[Answer], list[float]]] = {each: ([], [], []) for each in tokens}
    rights: list[str] = []
    for image, question, right in examples:
        rights.append(right)
        for number in tokens:
            trials, answers, extras = found[number]
            (trial,) = try_examples(engine, [(image, question, right)], method, number)
            costs = [engine.counters]
            asked: tuple[dict[str, Any], ...] = (
                {"method": "none"},
                {"method": method, "when": "auto", "crop_tokens": number},
            )
            for keywords in asked:
                answer = engine.ask(image, question, high_res="off", **keywords)
                costs.append(engine.counters)
            plain, auto = (cost(costs[at], costs[at + 1], engine.manifest) for at in range(2))
            made = not answer.crop_skipped
            assert is_right(answer.answer, right) == (trial.final if made else trial.first)
            assert abs(auto - plain - trial.aside - made * trial.crop) <= 2, "the cost is the foretold one"
            trials.append(trial)
            answers.append(answer)
            extras.append(auto - plain)
    return [
        Measured(
            f"{method}, {'all' if number == 'all' else number} crop tokens",
            trials,
            [is_right(answer.answer, right) for answer, right in zip(answers, rights, strict=True)],
            [not answer.crop_skipped for answer in answers],
            sum(extras),
        )
        for number, (trials, answers, extras) in found.items()
    ]


def when_table(measured: Sequence[Measured]) -> Table:
    """Accuracy, share of the gain, and cost beyond a plain answer; all but accuracy against the first row."""
    first = np.mean([trial.first for trial in measured[0].trials])
    gain = np.mean([trial.final for trial in measured[0].trials]) - first
    whole = measured[0].whole
    table = Table("", "right", "of the gain", "crops", "extra cost")
    table.add_row("no crop", f"{first:.1%}", "0 %", "0 %", "0 %")
    for each in measured:
        for name, right, crops, extra in (
            ("always", [trial.final for trial in each.trials], [True], float(each.whole)),
            ("auto", each.right, each.crops, each.extra),
        ):
            share = (np.mean(right) - first) / gain
            table.add_row(
                f"{each.name}, {name}",
                f"{np.mean(right):.1%}",
                f"{share:.1%}",
                f"{np.mean(crops):.1%}",
                f"{extra / whole:.1%}",
            )
    return table


def draw(measured: Sequence[Measured], path: Path, pictures: str) -> None:
    """Accuracy against cost, each cost over that of every crop with all tokens, and where `auto` stands."""
    lines = []
    whole = measured[0].whole
    for number, each in enumerate(measured):
        scale = each.whole / whole
        at = (each.extra / whole, float(np.mean(each.right)))
        note = "--when auto" if number == 0 else ""
        lines.append(Line(each.name, _points(full_curve(each.trials, _worth(each.trials)), scale), at, note))
    usual = full_curve(
        measured[0].trials, [1 - trial.confidence for trial in measured[0].trials], aside=False
    )
    lines.insert(1, Line("confidence of the first answer alone", _points(usual, 1.0)))
    trials = measured[0].trials
    first, always = (np.mean([getattr(trial, name) for trial in trials]) for name in ("first", "final"))
    caption = f"{pictures}. No question cropped: {first:.1%} right; every question: {always:.1%}."
    draw_curves("When a crop pays", caption, lines).save(path, optimize=True)


def _points(curve: Sequence[CurvePoint], scale: float) -> list[tuple[float, float]]:
    return [(point.cost * scale, point.accuracy) for point in curve]


def _worth(trials: Sequence[Trial]) -> list[float]:
    return [trial.worth for trial in trials]


@dataclass
class Listening:
    """rel-att, and what each signal says of the question just looked into: higher is less sure."""

    inner: RelativeAttention

    def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
        """Its own."""
        return self.inner.layers_read(size, window)

    def locate(self, state: RequestState) -> Localization:
        """Its window; `signals` are then this question's."""
        found = self.inner.locate(state)
        assert found.heatmap is not None, "the pictures are larger than a window"
        unsure = answer_uncertainty(state.first_logits())
        pointed = heatmap_concentration(found.heatmap, state.grid)
        first = state.model.decoder.decode(state.demand_pass().output, 20)
        self.signals = {
            "1 - geometric mean probability": 1 - first.confidence,
            "1 - first token's probability": 1 - first.probabilities[0],
            "1 - least token's probability": 1 - min(first.probabilities),
            "uncertainty (1 - margin of the first token)": unsure,
            "concentration of the heatmap": pointed,
            "1 - probability, times concentration": (1 - first.probabilities[0]) * pointed,
            "uncertainty times concentration: worth": unsure * pointed,
        }
        return found


def signal_table(engine: ViCropEngine, examples: Iterable[Example]) -> Table:
    """What each signal costs at 95 % and at all of the gain, in crops; and its mean share over all costs."""
    spy = Listening(RelativeAttention(engine.manifest.crop.layers))
    rows: list[tuple[dict[str, float], Trial]] = []
    for image, question, right in examples:
        answer: Any = engine.ask(image, question, method=spy, high_res="off")
        hits = is_right(answer.answer_without_crop, right), is_right(answer.answer, right)
        rows.append((spy.signals, Trial(0.0, answer.confidence, *hits, 0, 1)))
    trials = [trial for _, trial in rows]
    first, always = (np.mean([getattr(trial, name) for trial in trials]) for name in ("first", "final"))
    table = Table("signal", f"crops at {KEPT:.0%} of the gain", "at all of it", "mean share of the gain")
    for name in rows[0][0]:
        curve = full_curve(trials, [signals[name] for signals, _ in rows])
        kept = [(point.accuracy - first) / (always - first) for point in curve]
        shares = [min(p.cost for p, k in zip(curve, kept, strict=True) if k >= want) for want in (KEPT, 1.0)]
        costs = [point.cost for point in curve]
        area = abs(float(np.trapezoid(kept, costs)))
        table.add_row(name, *(f"{share:.1%}" for share in shares), f"{area:.3f}")
    return table
