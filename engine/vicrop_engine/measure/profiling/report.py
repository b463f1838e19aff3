"""A profile: what each flow takes, by stage, and how they compare, by the clock and by arithmetic alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from vicrop_engine.engine_dir.manifest import Manifest
from vicrop_engine.measure.profiling.flows import CROPPED, NEXT, PLAIN, PUBLISHED, Sample
from vicrop_engine.measure.profiling.stages import PREFIX, SUFFIXES, Part, StageCost, parts, stage_costs

UNTIL_CROP = ("preprocess", "vision", PREFIX, SUFFIXES, "heatmap and window")
UNEVEN = 0.05  # how far the medians of the stages may be from adding up to the median of the totals


@dataclass(frozen=True)
class Flow:
    """What one way to answer takes.

    `stages` hold the medians of their seconds, `p95` the 95th percentiles by stage and of the "total", which
    `seconds` is the median of. `typical` are the pieces, from 0 on, of the run nearest to that. `totals` are
    the seconds of each run, `finding` those until the crop pass, and `sample` is the typical run.
    """

    answer: str
    stages: tuple[StageCost, ...]
    seconds: float
    p95: dict[str, float]
    typical: tuple[Part, ...]
    totals: tuple[float, ...]
    finding: tuple[float, ...]
    sample: Sample

    @property
    def flops(self) -> int | None:
        """Operations of all stages."""
        counts = [stage.flops for stage in self.stages]
        return None if None in counts else sum(count for count in counts if count is not None)

    @property
    def flops_until_crop(self) -> int | None:
        """Operations of the stages before the crop's."""
        chosen = tuple(stage for stage in self.stages if stage.stage in UNTIL_CROP)
        return replace(self, stages=chosen).flops


@dataclass(frozen=True)
class Ratio:
    """How two flows compare: as measured, and what their operations alone say (None: not counted)."""

    measured: float
    arithmetic: float | None


@dataclass(frozen=True)
class Profile:
    """A whole profile; `facts` say what was run where, for people and in JSON alike."""

    facts: dict[str, Any]
    flows: dict[str, Flow]
    ratios: dict[str, Ratio]
    notices: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """One document; seconds, bytes and floating-point operations."""
        return {
            **self.facts,
            "flows": {name: _flow_json(flow) for name, flow in self.flows.items()},
            "ratios": {name: asdict(ratio) for name, ratio in self.ratios.items()},
            "notices": list(self.notices),
        }


def summarise(samples: Sequence[Sample], manifest: Manifest) -> Flow:
    """One flow from its samples."""
    costs = [{cost.stage: cost for cost in stage_costs(sample, manifest)} for sample in samples]
    names = list(costs[0])
    seconds = {name: [cost[name].seconds for cost in costs] for name in names}
    totals = [sum(cost.seconds for cost in run.values()) for run in costs]
    median = float(np.median(totals))
    typical = samples[int(np.argmin([abs(total - median) for total in totals]))]
    begin = typical.spans[0].start
    pieces = [replace(part, start=part.start - begin, end=part.end - begin) for part in parts(typical)]
    counted = any(sample.runs for sample in samples)
    if not counted:
        costs = [{name: replace(cost, flops=None) for name, cost in run.items()} for run in costs]
    return Flow(
        answer=typical.answer.answer,
        stages=tuple(replace(costs[0][name], seconds=float(np.median(seconds[name]))) for name in names),
        seconds=median,
        p95={name: float(np.percentile(values, 95)) for name, values in {**seconds, "total": totals}.items()},
        typical=tuple(pieces),
        totals=tuple(totals),
        finding=tuple(sum(run[name].seconds for name in UNTIL_CROP if name in run) for run in costs),
        sample=typical,
    )


def make_profile(
    facts: dict[str, Any], samples: Mapping[str, Sequence[Sample]], manifest: Manifest
) -> Profile:
    """The profile of what was measured."""
    flows = {name: summarise(taken, manifest) for name, taken in samples.items()}
    return Profile(facts, flows, compare(flows), tuple(_notices(flows, samples, manifest)))


def compare(flows: Mapping[str, Flow]) -> dict[str, Ratio]:
    """The ratios that matter, each to a plain answer about a new picture.

    "heatmap" is what finding the crop adds up to the crop pass, run by run. All are of whole answers: a new
    picture has to be opened, which the next question finds done.
    """
    plain, cropped = flows[PLAIN], flows[CROPPED]
    base = float(np.median(plain.totals))
    added = np.median(np.subtract(cropped.finding, plain.finding))
    more = _quotient(cropped.flops_until_crop, plain.flops)
    own = _quotient(plain.flops_until_crop, plain.flops)
    ratios = {
        "cropped": Ratio(float(np.median(cropped.totals)) / base, _quotient(cropped.flops, plain.flops)),
        "heatmap": Ratio(float(added) / base, None if more is None or own is None else more - own),
    }
    for name in flows.keys() - {PLAIN, CROPPED}:
        flow = flows[name]
        ratios[name] = Ratio(float(np.median(flow.totals)) / base, _quotient(flow.flops, plain.flops))
    return ratios


def _notices(
    flows: Mapping[str, Flow], samples: Mapping[str, Sequence[Sample]], manifest: Manifest
) -> list[str]:
    found = []
    if manifest.multiply_adds is None:
        found.append(
            "this engine was built before operations were counted; 'vicrop-engine build "
            f"{manifest.model.name} --force' makes one that has them"
        )
    for name, flow in flows.items():
        if abs(sum(stage.seconds for stage in flow.stages) - flow.seconds) > UNEVEN * flow.seconds:
            found.append(f"the runs ({name}) were so uneven that medians do not add up; give more --runs")
    first, plain = samples[CROPPED][0].answer, samples[PLAIN][0].answer
    if first.first_token_ids != plain.token_ids:
        found.append("the answers without the crop differ between the flows, by rounding in wider passes")
    if PUBLISHED in samples and samples[PUBLISHED][0].answer.crop_box != first.crop_box:
        found.append(
            "the published flow crops elsewhere; its geometry is what 'ask --compat mllms-know' takes"
        )
    if samples[NEXT][0].answer.token_ids != first.token_ids:
        found.append("the second question on the picture was answered otherwise, by rounding in other passes")
    return found


def _quotient(above: int | None, below: int | None) -> float | None:
    return above / below if above is not None and below else None


def _flow_json(flow: Flow) -> dict[str, Any]:
    stages = [{**asdict(stage), "p95": flow.p95[stage.stage]} for stage in flow.stages]
    return {
        "answer": flow.answer,
        "seconds": flow.seconds,
        "p95": flow.p95["total"],
        "flops": flow.flops,
        "runs": list(flow.totals),
        "stages": stages,
    }
