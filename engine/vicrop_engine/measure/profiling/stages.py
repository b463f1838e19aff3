"""Where the time of a run went: seconds, tokens, operations and weights by stage.

Image prefix and suffixes share passes; the seconds and operations of such a pass are divided by tokens, and
its weights, which it reads once, are the prefix's. Knows nothing of how this is shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vicrop_engine.counters import GraphRun
from vicrop_engine.engine_dir.flops import LOWER, VISION, num_flops, weight_bytes
from vicrop_engine.engine_dir.manifest import Manifest
from vicrop_engine.measure.profiling.flows import Sample
from vicrop_engine.timing import Span

PREFIX, SUFFIXES = "prefix prefill", "suffixes"
NAMES = {
    "decode_image": "decode image",
    "preprocess": "preprocess",
    "vision": "vision",
    "prefill": PREFIX,
    "heatmap": "heatmap and window",
    "crop_vision": "crop vision",
    "crop_prefill": "crop prefill",
    "decode": "decode",
}
ORDER = ("decode image", "preprocess", "vision", PREFIX, SUFFIXES, *list(NAMES.values())[4:])


@dataclass(frozen=True)
class Part:
    """A piece of a run by the name of its stage, in seconds of the clock."""

    stage: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.start


@dataclass(frozen=True)
class StageCost:
    """A stage of one run; `flops` is None for an engine whose products were not counted when it was built."""

    stage: str
    seconds: float
    tokens: int
    flops: int | None
    weight_bytes: int


def parts(sample: Sample) -> list[Part]:
    """The pieces of a run in order, passes over prefix and suffixes divided."""
    return [part for span in sample.spans for part in _divided(span, sample.runs)]


def stage_costs(sample: Sample, manifest: Manifest) -> list[StageCost]:
    """Every stage of a run, in the order they are first gone through."""
    seconds: defaultdict[str, float] = defaultdict(float)
    tokens: defaultdict[str, int] = defaultdict(int)
    flops: defaultdict[str, float] = defaultdict(float)
    weights: defaultdict[str, int] = defaultdict(int)
    for part in parts(sample):
        seconds[part.stage] += part.seconds
    for span in sample.spans:
        for run in _within(span, sample.runs):
            for stage, share in _shares(span, run).items():
                tokens[stage] += round(_num_tokens(run, manifest) * share)
                flops[stage] += _flops(run, manifest) * share
            owner = PREFIX if run.prefix_tokens else _last(_shares(span, run))
            weights[owner] += sum(weight_bytes(manifest, graph) for graph in run.graphs)
    counted = manifest.multiply_adds is not None
    gone_through = [name for name in seconds if seconds[name] or tokens[name]]
    names = sorted(gone_through, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    return [
        StageCost(name, seconds[name], tokens[name], round(flops[name]) if counted else None, weights[name])
        for name in names
    ]


def _divided(span: Span, runs: Sequence[GraphRun]) -> Iterator[Part]:
    if span.stage != "prefill":
        yield Part(NAMES.get(span.stage, span.stage), span.start, span.end)
        return
    within = list(_within(span, runs))
    spent = sum(run.end - run.start for run in within)
    prefix = sum((run.end - run.start) * _shares(span, run)[PREFIX] for run in within)
    middle = span.start + (span.end - span.start) * (prefix / spent if spent else 0.0)
    if prefix:
        yield Part(PREFIX, span.start, middle)
    yield Part(SUFFIXES, middle, span.end)


def _within(span: Span, runs: Sequence[GraphRun]) -> Iterator[GraphRun]:
    return (run for run in runs if span.start <= run.start and run.end <= span.end)


def _shares(span: Span, run: GraphRun) -> dict[str, float]:
    """The stages a run is of, and which part of it."""
    if span.stage != "prefill":
        return {NAMES.get(span.stage, span.stage): 1.0}
    prefix = run.prefix_tokens / run.axes.get("seq", 1)
    return {PREFIX: prefix, SUFFIXES: 1.0 - prefix}


def _num_tokens(run: GraphRun, manifest: Manifest) -> int:
    """Tokens that a run puts into the decoder, or image tokens that it makes."""
    if LOWER in run.graphs:
        return run.axes["seq"]
    if VISION not in run.graphs:
        return 0
    return run.axes.get("tokens", run.axes.get("images", 0) * manifest.vision.image_tokens)


def _flops(run: GraphRun, manifest: Manifest) -> int:
    counted = manifest.multiply_adds or {}
    return sum(num_flops(counted.get(graph, {}), run.axes) for graph in run.graphs)


def _last(shares: dict[str, float]) -> str:
    return list(shares)[-1]
