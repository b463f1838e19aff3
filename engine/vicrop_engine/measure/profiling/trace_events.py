"""A profile as trace events, for Perfetto or Chrome's tracing page: one lane for each way to answer.

A stage's graph runs lie under it, with the sizes of their axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vicrop_engine.measure.profiling.flows import Sample
from vicrop_engine.measure.profiling.report import Profile
from vicrop_engine.measure.profiling.stages import parts
from vicrop_engine.measure.profiling.table import TITLES

PROCESS, MICROSECONDS = 1, 1e6


def trace_events(profile: Profile) -> dict[str, Any]:
    """The JSON document; times in microseconds from the beginning of each flow's typical run."""
    events = [_named("process_name", 0, "vicrop-engine profile")]
    for lane, (name, flow) in enumerate(profile.flows.items(), 1):
        events.append(_named("thread_name", lane, TITLES.get(name, name)))
        events += _sample_events(flow.sample, lane)
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": profile.facts}


def _sample_events(sample: Sample, lane: int) -> Iterator[dict[str, Any]]:
    begin = sample.spans[0].start
    for part in parts(sample):
        yield _lasting(part.stage, "stage", lane, part.start - begin, part.end - begin, {})
    for run in sample.runs:
        sizes = {**run.axes, "prefix_tokens": run.prefix_tokens}
        name = " + ".join(run.graphs)
        yield _lasting(name, "graph", lane, run.start - begin, run.end - begin, sizes)


def _lasting(
    name: str, kind: str, lane: int, start: float, end: float, arguments: dict[str, int]
) -> dict[str, Any]:
    return {
        "name": name,
        "cat": kind,
        "ph": "X",
        "ts": round(start * MICROSECONDS, 3),
        "dur": round((end - start) * MICROSECONDS, 3),
        "pid": PROCESS,
        "tid": lane if kind == "stage" else lane + 100,
        "args": arguments,
    }


def _named(kind: str, lane: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": PROCESS, "tid": lane, "args": {"name": name}}
