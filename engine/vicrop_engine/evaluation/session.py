"""A whole evaluation: plans made of names, run one after the other, and the report of their answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vicrop_engine.engine_dir.files import MANIFEST, hash_file
from vicrop_engine.errors import SettingError
from vicrop_engine.evaluation.answers_file import SECONDS, AnswersFile
from vicrop_engine.evaluation.asking import Asking
from vicrop_engine.evaluation.benchmarks.benchmark import Benchmark
from vicrop_engine.evaluation.benchmarks.table import find_benchmark
from vicrop_engine.evaluation.marks import collect
from vicrop_engine.evaluation.plan import Plan
from vicrop_engine.evaluation.report import Report, Section, section
from vicrop_engine.evaluation.run import Files, OnStep, run_plan, settle
from vicrop_engine.evaluation.scorers.scorer import PAPER, Scorer
from vicrop_engine.evaluation.settings import EvalSettings
from vicrop_engine.evaluation.sources.opening import open_questions
from vicrop_engine.images.geometry import Box
from vicrop_engine.vicrop.localizers.methods import NONE

AskingFor = Callable[[Plan], Asking]


def make_plan(benchmark: Benchmark, settings: EvalSettings, engine: Path) -> Plan:
    """The plan of a benchmark for the engine in this directory.

    Raises SettingError, DatasetError and DatasetsMissingError.
    """
    scorers_of(benchmark, settings)
    harness = settings.prompt or (settings.scorers or (first_harness(benchmark),))[0]
    prompt = benchmark.worded_by(harness)
    if not benchmark.scorers and NONE in settings.methods:
        kept = tuple(method for method in settings.methods if method != NONE)
        if not kept:
            raise SettingError(
                f"method 'none' makes no crop, which {benchmark.name} is about; give another one"
            )
        settings = replace(settings, methods=kept)
    questions = open_questions(benchmark, settings.copies.get(benchmark.name))
    if not questions.origin.rows:
        raise SettingError(f"{benchmark.name} holds no questions; give another copy of it")
    digest = hash_file(engine / MANIFEST).sha256
    return Plan(benchmark, questions, harness_name(benchmark, harness), prompt, settings, digest)


def first_harness(benchmark: Benchmark) -> str:
    """The paper's where it has the benchmark, else the first that has."""
    known = [scorer.name for scorer in benchmark.scorers] or list(benchmark.prompts)
    return PAPER if PAPER in known else known[0]


def harness_name(benchmark: Benchmark, wanted: str) -> str:
    """The name of the prompt that is taken, which for questions of no harness is none of theirs."""
    return wanted if wanted in benchmark.prompts else next(iter(benchmark.prompts))


def scorers_of(benchmark: Benchmark, settings: EvalSettings) -> tuple[Scorer, ...]:
    """The scorers wanted, each once; all of the benchmark's first harness where none is named.

    Raises SettingError where a harness has none for it.
    """
    if not benchmark.scorers:
        return ()
    wanted = settings.scorers or (first_harness(benchmark),)
    return tuple(dict.fromkeys(scorer for name in wanted for scorer in benchmark.scored_by(name)))


def boxes_of(benchmark: Benchmark, copies: Mapping[str, Path]) -> dict[str, tuple[Box, ...]]:
    """The boxes of answers by question id, where a copy of the data set of boxes is given."""
    if benchmark.boxes not in copies:
        return {}
    questions = open_questions(find_benchmark(benchmark.boxes), copies[benchmark.boxes])
    found = (questions.question(row) for row in range(questions.origin.rows))
    return {question.id: question.boxes for question in found}


@contextlib.contextmanager
def opened_files(directory: Path) -> Iterator[Files]:
    """The files of a run. Raises AnswersFileError."""
    with AnswersFile.opened(directory) as answers, AnswersFile.opened(directory, SECONDS) as seconds:
        yield Files(answers, seconds)


def ask_all(plans: Sequence[Plan], asking: AskingFor, files: Files, on_step: OnStep) -> None:
    """Ask what is missing of all plans, and put the files in order."""
    for plan in plans:
        run_plan(plan, asking(plan), files, on_step)
    settle(plans, files)


def report_of(plans: Sequence[Plan], files: Files, facts: dict[str, Any], model: str) -> Report:
    """The report of the answers that there are."""
    return Report(facts, [_section(plan, files, model) for plan in plans])


def _section(plan: Plan, files: Files, model: str) -> Section:
    boxes = boxes_of(plan.benchmark, plan.settings.copies)
    collected = collect(plan, files.answers, files.seconds, boxes)
    return section(plan, scorers_of(plan.benchmark, plan.settings), collected, model)
