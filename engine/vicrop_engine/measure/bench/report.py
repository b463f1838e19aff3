"""Runs that belong together, checked against each other, and what they come to.

Nothing is reported of answers that are not those given one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vicrop_engine.errors import AnswersDifferError
from vicrop_engine.measure.bench.figures import Figures, answered, figures, spread
from vicrop_engine.measure.bench.loops import Run
from vicrop_engine.measure.bench.outcome import Outcome
from vicrop_engine.measure.bench.workload import SHORT, Query

LOAD, SINGLE, ALONE = "under load", "one at a time", "short ones alone"


@dataclass(frozen=True)
class Report:
    """Runs by name: LOAD; SINGLE, each query when the one before is answered; ALONE, only the short ones so.

    `facts` say what was measured, where and how.
    """

    facts: dict[str, Any]
    runs: dict[str, Run]

    @property
    def rate(self) -> float | None:
        """Queries a second where they come on their own."""
        rate: float | None = self.facts["load"]["rate"]
        return rate

    @property
    def figures(self) -> dict[str, Figures]:
        """The figures of each run."""
        return {name: figures(each) for name, each in self.runs.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """How much better load is than one at a time, and what short requests pay for the others.

        `throughput` is answers a second over those one at a time, `processor` the processor time an answer
        takes one at a time over that under load. `short_p95` and `short_p50` are latencies of short requests
        under load over those alone. Where queries come at a rate, throughput is that rate and no ratio.
        """
        made = self.figures
        ratios = {}
        if SINGLE in made:
            if self.rate is None:
                ratios["throughput"] = made[LOAD].throughput / made[SINGLE].throughput
            load, one = made[LOAD].processor, made[SINGLE].processor
            if load and one:
                ratios["processor"] = one / load
        mixed, alone = (spread(latencies(self.runs.get(name), SHORT)) for name in (LOAD, ALONE))
        if mixed and alone:
            ratios |= {"short_p95": mixed.p95 / alone.p95, "short_p50": mixed.p50 / alone.p50}
        return ratios

    def to_json(self) -> dict[str, Any]:
        """The document `bench --json` prints."""
        runs: dict[str, Any] = {}
        for name, each in self.figures.items():
            kinds = sorted({outcome.query.kind for outcome in self.runs[name].outcomes})
            by_kind = {kind: spread(latencies(self.runs[name], kind)) for kind in kinds}
            runs[name.replace(" ", "_")] = {
                **each.to_json(),
                "latency_by_kind": {kind: made and vars(made) for kind, made in by_kind.items()},
            }
        return {**self.facts, "runs": runs, "ratios": self.ratios, "answers_verified": True}


def latencies(one: Run | None, kind: str) -> list[float]:
    """Seconds of each answered query of the kind, in the order asked; none of no run."""
    done = () if one is None else answered(one.outcomes)
    return [each.latency for each in done if each.query.kind == kind]


def mixed(queries: Sequence[Query]) -> list[Query]:
    """The short ones, if there are others too."""
    short = [query for query in queries if query.kind == SHORT]
    return short if len(short) < len(queries) else []


def check_answers(outcomes: Sequence[Outcome], one_at_a_time: Sequence[Outcome]) -> None:
    """Raises AnswersDifferError unless answers and boxes are those given one by one, where there are any."""
    wanted = {each.query.number: each.said for each in answered(one_at_a_time)}
    different = [
        each
        for each in answered(outcomes)
        if each.query.number in wanted and each.said != wanted[each.query.number]
    ]
    if different:
        first = different[0]
        raise AnswersDifferError(
            f"{len(different)} of {len(outcomes)} answers are not those given one by one, so nothing is "
            f"reported: question {first.query.number}, {first.query.question!r}, got {first.said}, wanted "
            f"{wanted[first.query.number]}; report it with the output of 'vicrop-engine info'"
        )
