"""What is run one after the other to measure an engine, or a server, under load."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vicrop_engine.engine import ViCropEngine
from vicrop_engine.errors import WorkFailedError
from vicrop_engine.examples import demo_question
from vicrop_engine.measure.bench.in_process import BareEngine, ScheduledEngine
from vicrop_engine.measure.bench.loops import Loop, Run, one_by_one, run
from vicrop_engine.measure.bench.outcome import Target
from vicrop_engine.measure.bench.over_http import Server
from vicrop_engine.measure.bench.report import ALONE, LOAD, SINGLE, check_answers, mixed
from vicrop_engine.measure.bench.workload import Query
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.vicrop.params import AskParams

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """Queries, how they are put, the settings of all of them, and whether the rival is measured too.

    `draw(0)` are the queries; `draw(1)`, `draw(2)` the same questions on pictures that nobody has seen. An
    engine is opened with its probe unless `probe` is False.
    """

    draw: Callable[[int], Sequence[Query]]
    loop: Loop
    params: AskParams
    baseline: bool = True
    probe: bool = True


def bench_engine(directory: Path, threads: int | None, trial: Trial, say: Say) -> dict[str, Run]:
    """The runs of an engine behind a scheduler, and of the engine alone.

    Each run has the engine opened anew; the rival's, opened as `ask` opens it, forgets before every question.
    Raises AnswersDifferError, WorkFailedError when nothing was answered, and what opening raises.
    """

    def scheduled(name: str, loop: Loop, queries: Sequence[Query]) -> Run:
        with Scheduler(ViCropEngine.load(directory, threads=threads, probe=trial.probe)) as scheduler:
            return _run(name, loop, ScheduledEngine(scheduler, trial.params), queries, say)

    queries = trial.draw(0)
    runs = {LOAD: scheduled(LOAD, trial.loop, queries)}
    if short := mixed(queries):
        runs[ALONE] = scheduled(ALONE, one_by_one, short)
    bare = BareEngine(ViCropEngine.load(directory, threads=threads, probe=trial.probe), trial.params)
    single = _run(SINGLE, one_by_one, bare, queries, say)
    _check(runs, single)
    return {**runs, SINGLE: single} if trial.baseline else runs


def bench_server(server: Server, trial: Trial, say: Say) -> dict[str, Run]:
    """The runs of a server, which cannot be made to forget: each is about pictures of its own.

    The questions under load are asked again one by one, to compare the answers.
    Raises AnswersDifferError, and WorkFailedError when nothing was answered.
    """
    queries = trial.draw(0)
    runs = {LOAD: _run(LOAD, trial.loop, server, queries, say)}
    _check(runs, _run("again, one at a time", one_by_one, server, queries, say))
    if short := mixed(trial.draw(1)):
        runs[ALONE] = _run(ALONE, one_by_one, server, short, say)
    if trial.baseline:
        runs[SINGLE] = _run(SINGLE, one_by_one, server, trial.draw(2), say)
    return runs


def _run(name: str, loop: Loop, target: Target, queries: Sequence[Query], say: Say) -> Run:
    """A run, after one question that is not measured, so that all is loaded and open."""
    image, document = demo_question()
    target.ask(Query(-1, -1, document["question"], "off", image.read_bytes()))
    say(f"{len(queries)} questions: {name}")
    return run(loop, target, queries)


def _check(runs: Mapping[str, Run], single: Run) -> None:
    """Raises AnswersDifferError unless all are the answers given one by one, WorkFailedError without any."""
    if all(each.said is None for each in runs[LOAD].outcomes):
        errors = {each.error for each in runs[LOAD].outcomes if each.error is not None}
        raise WorkFailedError(
            f"no question was answered ({', '.join(sorted(errors))}); see what 'vicrop-engine ask', or the "
            "server's log, says of one"
        )
    for each in runs.values():
        check_answers(each.outcomes, single.outcomes)
