"""What a run comes to, benchmark by benchmark: numbers with intervals, and all that belongs beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from vicrop_engine.evaluation.marks import SIZES, Answered, Collected, Figure, Marks, names
from vicrop_engine.evaluation.plan import Plan
from vicrop_engine.evaluation.pointing import pointing_figures
from vicrop_engine.evaluation.published import published
from vicrop_engine.evaluation.scorers.scorer import Scorer
from vicrop_engine.evaluation.settings import Variant
from vicrop_engine.vicrop.localizers.methods import NONE

PLAIN = Variant(NONE)


@dataclass(frozen=True)
class Row:
    """One variant by one scorer; `against_none` is how much better than without a crop."""

    variant: Variant
    scorer: Scorer
    figure: Figure
    against_none: Figure | None
    published: float | None
    by_size: dict[str, Figure]
    by_category: dict[str, Figure]


@dataclass(frozen=True)
class Cost:
    """What a question takes in one way: seconds, those beyond a plain answer, the crop's tokens, decoded."""

    variant: Variant
    seconds: float | None
    beyond_none: float | None
    crop_tokens: float
    decoded: float


@dataclass(frozen=True)
class Section:
    """A benchmark's part: its plan, the rows of its table, costs, how crops point, and what failed."""

    plan: Plan
    rows: list[Row]
    costs: list[Cost]
    pointing: dict[Variant, dict[str, Figure]]
    failed: Sequence[Mapping[str, Any]]
    unanswered: int


@dataclass(frozen=True)
class Report:
    """All of it; `facts` are what engine and versions made it."""

    facts: dict[str, Any]
    sections: list[Section] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The document of report.json."""
        return {**self.facts, "benchmarks": [_section_json(each) for each in self.sections]}


def section(plan: Plan, scorers: Iterable[Scorer], collected: Collected, model: str) -> Section:
    """The part of one benchmark, from its answers."""
    answered = {variant: found for variant, found in collected.answered.items() if found}
    asked = sum(map(len, answered.values())) + len(collected.failed)
    return Section(
        plan,
        [row for scorer in scorers for row in _rows(plan, scorer, answered, model)],
        [] if not plan.benchmark.scorers else list(_costs(answered)),
        {variant: figures for variant, found in answered.items() if (figures := _pointing(variant, found))},
        collected.failed,
        len(plan) - asked,
    )


def _rows(
    plan: Plan, scorer: Scorer, answered: Mapping[Variant, Sequence[Answered]], model: str
) -> Iterable[Row]:
    marks = {variant: Marks(scorer, found) for variant, found in answered.items()}
    plain = marks.get(PLAIN)
    for variant, own in marks.items():
        figure = own.figure()
        assert figure is not None, "only variants with answers are here"
        against = own.against(plain) if plain is not None and variant != PLAIN else None
        tiles = plan.settings.high_res != "off"
        known = published(model, plan.benchmark.name, scorer.name, variant.method, tiles=tiles)
        sizes = [name for name, _, _ in SIZES]
        categories = names(each.question.category for each in own.answered)
        yield Row(
            variant,
            scorer,
            figure,
            against,
            known if variant.layers is None else None,
            _by(own, "size", sizes),
            _by(own, "category", categories),
        )


def _by(marks: Marks, what: str, groups: Sequence[str]) -> dict[str, Figure]:
    """The figure of each group that has answers."""

    def group(each: Answered) -> str:
        return each.size if what == "size" else each.question.category

    def is_in(name: str, each: Answered) -> bool:
        return group(each) == name

    found = {name: marks.figure(partial(is_in, name)) for name in groups}
    return {name: figure for name, figure in found.items() if figure is not None}


def _costs(answered: Mapping[Variant, Sequence[Answered]]) -> Iterable[Cost]:
    means = {variant: _seconds(found) for variant, found in answered.items()}
    plain = means.get(PLAIN)
    for variant, found in answered.items():
        own = means[variant]
        beyond = own - plain if own is not None and plain is not None and variant != PLAIN else None
        tokens = [np.mean([each.line[name] for each in found]) for name in ("crop_tokens", "decoded")]
        yield Cost(variant, own, beyond, *map(float, tokens))


def _seconds(answered: Sequence[Answered]) -> float | None:
    known = [each.seconds for each in answered if each.seconds is not None]
    return float(np.mean(known)) if known else None


def _pointing(variant: Variant, answered: Sequence[Answered]) -> dict[str, Figure]:
    cropped = [each for each in answered if each.line["crop_box"] is not None]
    return {} if variant == PLAIN else pointing_figures(cropped)


def _section_json(each: Section) -> dict[str, Any]:
    plan, sample = each.plan, each.plan.settings.sample
    return {
        "benchmark": plan.benchmark.name,
        **asdict(plan.questions.origin),
        "asked": len(plan.rows),
        "sample": {name: value for name, value in vars(sample).items() if value is not None} or None,
        "prompt": {
            "harness": plan.harness,
            "template": plan.prompt.template,
            "max_new_tokens": plan.max_new_tokens,
            "note": plan.prompt.note or None,
        },
        "settings": {
            name: getattr(plan.settings, name) for name in ("high_res", "when", "crop_tokens", "compat")
        },
        "scores": [_row_json(row) for row in each.rows],
        "cost": [{**_variant(cost.variant), **_rounded(cost)} for cost in each.costs],
        "pointing": [
            {**_variant(variant), **{name: _figure_json(figure) for name, figure in figures.items()}}
            for variant, figures in each.pointing.items()
        ],
        "failed": [
            {name: line[name] for name in ("question_id", "row", "error")}
            | {"method": line["settings"]["method"]}
            for line in each.failed
        ],
        "unanswered": each.unanswered,
    }


def _row_json(row: Row) -> dict[str, Any]:
    return {
        **_variant(row.variant),
        "crop": row.variant != PLAIN,
        "scorer": row.scorer.name,
        "metric": row.scorer.metric,
        **_figure_json(row.figure),
        "against_none": None if row.against_none is None else _figure_json(row.against_none),
        "published": row.published,
        "by_size": {name: _figure_json(figure) for name, figure in row.by_size.items()},
        "by_category": {name: _figure_json(figure) for name, figure in row.by_category.items()},
        "note": row.scorer.note or None,
    }


def _variant(variant: Variant) -> dict[str, Any]:
    return {"method": variant.method, "layers": variant.layers}


def _figure_json(figure: Figure) -> dict[str, Any]:
    interval = [round(figure.low, 4), round(figure.high, 4)]
    return {"n": figure.n, "value": round(figure.value, 4), "interval": interval}


def _rounded(cost: Cost) -> dict[str, Any]:
    kept = {name: value for name, value in vars(cost).items() if name != "variant"}
    return {name: None if value is None else round(value, 6) for name, value in kept.items()}
