"""Asks what a plan wants and the file does not have yet, and keeps what comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from vicrop_engine.evaluation.answers_file import AnswersFile
from vicrop_engine.evaluation.asking import Asking
from vicrop_engine.evaluation.plan import Plan, Task


@dataclass(frozen=True)
class Step:
    """Where a run stands: `done` of `total` tasks, the last of them, and whether it was asked just now."""

    plan: Plan
    task: Task
    done: int
    total: int
    fresh: bool


OnStep = Callable[[Step], None]


@dataclass(frozen=True)
class Files:
    """What a run writes: answers, and the seconds each took, which are never twice the same."""

    answers: AnswersFile
    seconds: AnswersFile


def run_plan(plan: Plan, asking: Asking, files: Files, on_step: OnStep) -> None:
    """Ask every task that has no answer yet; failed ones are asked again.

    Raises what is wrong with the settings before any work, and what stops everything; what was answered by
    then is kept.
    """
    _check(plan, asking)
    total, done = len(plan), 0
    for task in plan.tasks():
        if files.answers.has_answer(task.key):
            done += 1
            on_step(Step(plan, task, done, total, fresh=False))
    for task, reply in asking.replies(_open_tasks(plan, files.answers), plan.picture):
        files.answers.append(reply.line(task))
        if reply.seconds is not None:
            seconds = round(reply.seconds, 6)
            files.seconds.append({"key": task.key, "seconds": seconds, "error": None})
        done += 1
        on_step(Step(plan, task, done, total, fresh=True))


def settle(plans: Sequence[Plan], files: Files) -> None:
    """Put the lines of these plans into their order, once all is asked."""
    keys = [task.key for plan in plans for task in plan.tasks()]
    files.answers.settle(keys)
    files.seconds.settle(keys)


def _open_tasks(plan: Plan, answers: AnswersFile) -> Iterator[Task]:
    return (task for task in plan.tasks() if not answers.has_answer(task.key))


def _check(plan: Plan, asking: Asking) -> None:
    """The first question in every way is no request that is refused."""
    for task, _ in zip(plan.tasks(), plan.settings.variants, strict=False):
        asking.check(task)
