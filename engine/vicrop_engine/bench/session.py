"""What is run one after the other to measure an engine, or a server, under load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicrop_engine.bench.in_process import BareEngine, ScheduledEngine
from vicrop_engine.bench.loops import Loop, Run
from vicrop_engine.bench.outcome import Target
from vicrop_engine.bench.over_http import Server
from vicrop_engine.bench.report import LOAD, SINGLE, Say, check_answers, measure, single
from vicrop_engine.bench.workload import Query
from vicrop_engine.demo import demo_question
from vicrop_engine.errors import WorkFailedError
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.vicrop import ViCropEngine


@dataclass(frozen=True)
class Trial:
    """Queries, how they are put, keywords of `ask` for all of them, and whether the rival is measured too."""

    queries: Sequence[Query]
    loop: Loop
    keywords: Mapping[str, Any]
    baseline: bool = True


def bench_engine(directory: Path, threads: int | None, trial: Trial, say: Say) -> dict[str, Run]:
    """The runs of an engine behind a scheduler, and of the engine alone.

    The rival is opened on its own, as `ask` opens it, and forgets before every question. Raises
    AnswersDifferError, WorkFailedError when nothing was answered, and what opening raises.
    """
    runs = {}
    if trial.baseline:
        bare = BareEngine(ViCropEngine.load(directory, threads=threads), **trial.keywords)
        _warm_up(bare)
        runs[SINGLE] = single(bare, trial.queries, say)
        del bare  # with its memory
    engine = ViCropEngine.load(directory, threads=threads)
    with Scheduler(engine) as scheduler:
        scheduled = ScheduledEngine(scheduler, **trial.keywords)
        _warm_up(scheduled)
        engine.forget()
        runs = {**measure(scheduled, trial.loop, trial.queries, engine.forget, say), **runs}
        reference = runs.get(SINGLE) or single(scheduled, trial.queries, say)
    return _checked(runs, reference)


def bench_server(server: Server, trial: Trial, say: Say) -> dict[str, Run]:
    """The runs of a server: under load, and after that one at a time, with whatever it keeps.

    Raises AnswersDifferError, and WorkFailedError when nothing was answered.
    """
    _warm_up(server)
    runs = measure(server, trial.loop, trial.queries, lambda: None, say)
    reference = single(server, trial.queries, say)
    return _checked({**runs, SINGLE: reference} if trial.baseline else runs, reference)


def _checked(runs: dict[str, Run], reference: Run) -> dict[str, Run]:
    errors = {each.error for each in runs[LOAD].outcomes if each.error is not None}
    if all(each.said is None for each in runs[LOAD].outcomes):
        raise WorkFailedError(f"no question was answered ({', '.join(sorted(errors))}); ask one with --debug")
    for each in runs.values():
        check_answers(each.outcomes, reference.outcomes)
    return runs


def _warm_up(target: Target) -> None:
    """One question that is not measured, so that all is loaded and open."""
    image, document = demo_question()
    target.ask(Query(-1, -1, document["question"], "off", image.read_bytes()))
