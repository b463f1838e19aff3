"""The answers of a plan with their scores: what every number of a report is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vicrop_engine.evaluation.answers_file import AnswersFile
from vicrop_engine.evaluation.intervals import Values, bootstrap, wilson
from vicrop_engine.evaluation.plan import Plan
from vicrop_engine.evaluation.question import Question
from vicrop_engine.evaluation.scorers.scorer import Scorer
from vicrop_engine.evaluation.scorers.totals import mean
from vicrop_engine.evaluation.settings import Variant
from vicrop_engine.images.geometry import Box

SIZES = (("small", 0.0, 0.005), ("medium", 0.005, 0.05), ("large", 0.05, 1.01))  # share of the picture


@dataclass(frozen=True)
class Answered:
    """A question, the line of its answer, and the seconds it took where they were measured.

    `boxes` are where the answer stands: the question's own, or those of another data set.
    """

    row: int
    question: Question
    line: Mapping[str, Any]
    seconds: float | None
    boxes: tuple[Box, ...]

    @property
    def area(self) -> float | None:
        """The share of the picture that the boxes cover, None where there are none."""
        if not self.boxes:
            return None
        width, height = self.line["image_size"]
        return float(sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in self.boxes) / (width * height))

    @property
    def size(self) -> str:
        """Its class of size, "" where that is not known."""
        area = self.area
        return "" if area is None else next(name for name, _, high in SIZES if area < high or high > 1)


@dataclass(frozen=True)
class Collected:
    """The answers of each variant, in the order of the questions, and the lines of those that failed."""

    answered: dict[Variant, list[Answered]]
    failed: list[Mapping[str, Any]]


def collect(
    plan: Plan, answers: AnswersFile, seconds: AnswersFile, boxes: Mapping[str, tuple[Box, ...]]
) -> Collected:
    """Everything of a plan that has been asked; `boxes` by question id, from a data set of boxes."""
    answered: dict[Variant, list[Answered]] = {variant: [] for variant in plan.settings.variants}
    failed: list[Mapping[str, Any]] = []
    for task in plan.tasks():
        line = answers.get(task.key)
        if line is None:
            continue
        if line["error"] is not None:
            failed.append(line)
            continue
        took = seconds.get(task.key)
        where = task.question.boxes or boxes.get(task.question.id, ())
        kept = Answered(task.row, task.question, line, None if took is None else took["seconds"], where)
        answered[task.variant].append(kept)
    return Collected(answered, failed)


@dataclass(frozen=True)
class Figure:
    """A number in percent with its 95 % interval, made of `n` answers."""

    n: int
    value: float
    low: float
    high: float


class Marks:
    """The marks of one variant's answers by one scorer."""

    def __init__(self, scorer: Scorer, answered: Sequence[Answered]) -> None:
        marks = [scorer.mark(each.line["answer"], each.question) for each in answered]
        self.scorer, self.answered = scorer, answered
        self.scores: Values = np.array([mark.score for mark in marks], np.float64)
        self.groups = [mark.group for mark in marks]

    def figure(self, chosen: Callable[[Answered], bool] | None = None) -> Figure | None:
        """The total of the answers that are `chosen`; None where there are none.

        Means have Wilson's interval, other totals that of the bootstrap.
        """
        places = [place for place, each in enumerate(self.answered) if chosen is None or chosen(each)]
        if not places:
            return None
        total = self._total(places)
        value = total(np.ones(len(places)))
        plain = self.scorer.total is mean
        low, high = wilson(value, len(places)) if plain else bootstrap(total, len(places))
        return Figure(len(places), *(100 * number for number in (value, low, high)))

    def against(self, other: Marks) -> Figure | None:
        """How much higher the total is than another one's, on the questions that both answered."""
        own, others = ({each.row: place for place, each in enumerate(m.answered)} for m in (self, other))
        rows = [row for row in own if row in others]
        if not rows:
            return None
        mine, theirs = self._total([own[row] for row in rows]), other._total([others[row] for row in rows])
        difference = _difference(mine, theirs)
        low, high = bootstrap(difference, len(rows))
        return Figure(len(rows), *(100 * number for number in (difference(np.ones(len(rows))), low, high)))

    def _total(self, places: Sequence[int]) -> Callable[[Values], float]:
        scores, groups = self.scores[list(places)], [self.groups[place] for place in places]
        return lambda weights: self.scorer.total(scores, groups, weights)


def names(values: Iterable[str]) -> list[str]:
    """Groups as they are shown: each once, in order, none without a name."""
    return sorted({value for value in values if value})


def _difference(
    one: Callable[[Values], float], other: Callable[[Values], float]
) -> Callable[[Values], float]:
    return lambda weights: one(weights) - other(weights)
