"""What `eval` shows: progress on standard error, the report on standard output and in its files."""

from __future__ import annotations

import contextlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vicrop_engine.cli import output

if TYPE_CHECKING:
    from vicrop_engine.evaluation.answers_file import AnswersFile
    from vicrop_engine.evaluation.plan import Plan
    from vicrop_engine.evaluation.report import Report
    from vicrop_engine.evaluation.run import OnStep, Step

LINES = 20  # off a terminal a line is written each time another twentieth is done


class Running:
    """The accuracy of the answers so far, by benchmark and variant, by the first scorer."""

    def __init__(self, answers: AnswersFile) -> None:
        self._answers = answers
        self._sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(self, step: Step) -> None:
        """One more answer; where the benchmark is not scored nothing is counted."""
        line = self._answers.get(step.task.key)
        if line is None or line["error"] is not None or not step.plan.benchmark.scorers:
            return
        scorer = next(
            each for each in step.plan.benchmark.scorers if each.name in (step.plan.harness, "exact")
        )
        sums = self._sums[step.plan.benchmark.name, step.task.variant.name]
        sums[0] += scorer.mark(line["answer"], step.task.question).score
        sums[1] += 1

    def told(self, plan: Plan) -> str:
        """Of the benchmark that is under way."""
        name = plan.benchmark.name
        parts = [
            f"{variant} {sums[0] / sums[1]:.1%}"
            for (benchmark, variant), sums in self._sums.items()
            if benchmark == name and sums[1]
        ]
        return ", ".join([name, *parts])


@contextlib.contextmanager
def shown_progress(plans: Sequence[Plan], answers: AnswersFile) -> Iterator[OnStep]:
    """Hears of each step: a bar with the time left and the accuracy so far; lines off a terminal."""
    running = Running(answers)
    told = _bar(plans, running) if sys.stderr.isatty() else _lines(running)
    with told as show:

        def on_step(step: Step) -> None:
            running.add(step)
            show(step)

        yield on_step


@contextlib.contextmanager
def _bar(plans: Sequence[Plan], running: Running) -> Iterator[Callable[[Step], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks = {plan.benchmark.name: bar.add_task(plan.benchmark.name, total=len(plan)) for plan in plans}

        def show(step: Step) -> None:
            task = tasks[step.plan.benchmark.name]
            bar.update(task, completed=step.done, description=running.told(step.plan))

        yield show


@contextlib.contextmanager
def _lines(running: Running) -> Iterator[Callable[[Step], None]]:
    last: dict[str, int] = {}

    def show(step: Step) -> None:
        name, share = step.plan.benchmark.name, step.done * LINES // step.total
        if step.fresh and share != last.get(name, 0):
            output.notice(f"{step.done / step.total:4.0%}  {running.told(step.plan)}")
        last[name] = share

    yield show


def write_report(report: Report, directory: Path) -> None:
    """report.json, report.md and report.png; a failed write leaves what was there."""
    import json

    from vicrop_engine.evaluation.markdown import markdown
    from vicrop_engine.evaluation.plot import draw_report

    text = json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False, indent=1)
    output.save_text(text + "\n", directory / "report.json")
    output.save_text(markdown(report), directory / "report.md")
    if any(section.rows for section in report.sections):
        output.save_png(draw_report(report), directory / "report.png")


def print_report(report: Report, directory: Path) -> None:
    """Tables on standard output, and where the rest is."""
    from rich.console import Console
    from rich.markdown import Markdown

    from vicrop_engine.evaluation.markdown import markdown

    text = markdown(report)
    if sys.stdout.isatty():
        Console(file=sys.stdout).print(Markdown(text))
    else:
        print(text, end="")
    output.notice(f"answers, report.json, report.md and report.png are in {directory}")
