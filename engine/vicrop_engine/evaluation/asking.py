"""Tasks answered by an engine in this process: through the scheduler, several at a time, told in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from vicrop_engine.engine import ViCropEngine
from vicrop_engine.errors import ViCropError
from vicrop_engine.evaluation.plan import Task
from vicrop_engine.evaluation.question import PictureFile
from vicrop_engine.evaluation.reply import Reply, answered, failed, located
from vicrop_engine.images.picture import open_picture
from vicrop_engine.serving.ask_batch import NO_DEADLINE
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.serving.settings import SchedulerSettings
from vicrop_engine.vicrop.planning import plan_request

PictureOf = Callable[[int], PictureFile]


class Asking(Protocol):
    """A way to have tasks answered: each comes back with its reply, in any order, and none is lost."""

    def replies(self, tasks: Iterable[Task], picture: PictureOf) -> Iterator[tuple[Task, Reply]]:
        """The replies as they come. Whatever is wrong with one task is that task's reply."""

    def check(self, task: Task) -> None:
        """Raises what is wrong with the settings of a task, before any work."""


class Scheduled:
    """Through a scheduler of an open engine, `running` at a time (None: as many as it can)."""

    def __init__(self, engine: ViCropEngine, running: int | None = None) -> None:
        self._engine = engine.as_given()
        self._bounds = SchedulerSettings(running=running, deadline=NO_DEADLINE)

    def check(self, task: Task) -> None:
        """Raises SettingError, QuestionError and what else a request is refused with."""
        plan_request(self._engine.model, task.text, task.params, side_by_side=False)

    def replies(self, tasks: Iterable[Task], picture: PictureOf) -> Iterator[tuple[Task, Reply]]:
        """In the order of the tasks; only so many are ahead that nothing stands idle."""
        asked: deque[tuple[Task, RequestHandle | ViCropError]] = deque()
        scheduler = Scheduler(self._engine, self._bounds)
        try:
            for task in tasks:
                if len(asked) == 2 * scheduler.settings.num_running:
                    yield _told(*asked.popleft())
                asked.append((task, _submitted(scheduler, task, picture)))
            while asked:
                yield _told(*asked.popleft())
        finally:
            scheduler.close(drain=False)


class OneByOne:
    """The same engine asked one question after the other, as `ask` does: what throughput is held against."""

    def __init__(self, engine: ViCropEngine) -> None:
        self._engine = engine.as_given()

    def check(self, task: Task) -> None:
        """Raises what a request is refused with."""
        plan_request(self._engine.model, task.text, task.params)

    def replies(self, tasks: Iterable[Task], picture: PictureOf) -> Iterator[tuple[Task, Reply]]:
        """In the order of the tasks."""
        for task in tasks:
            try:
                reply = answered(self._engine.answer(picture(task.row), task.text, task.params))
            except ViCropError as error:
                reply = failed(error)
            yield task, reply


class Locating:
    """The window each task's method finds, without an answer."""

    def __init__(self, engine: ViCropEngine) -> None:
        self._engine = engine.as_given()

    def check(self, task: Task) -> None:
        """Raises SettingError and what else a request is refused with."""
        plan_request(self._engine.model, task.text, task.params)

    def replies(self, tasks: Iterable[Task], picture: PictureOf) -> Iterator[tuple[Task, Reply]]:
        """In the order of the tasks."""
        for task in tasks:
            try:
                yield task, self._reply(task, picture)
            except ViCropError as error:
                yield task, failed(error)

    def _reply(self, task: Task, picture: PictureOf) -> Reply:
        params, begin = task.params, time.monotonic()
        shown = open_picture(picture(task.row)).image
        found = self._engine.locate(
            shown,
            task.text,
            method=params.method,
            high_res=params.high_res,
            layers=params.layers,
            compat=params.compat,
            localize=params.localize,
        )
        return located(found, shown.size, time.monotonic() - begin)


def _submitted(scheduler: Scheduler, task: Task, picture: PictureOf) -> RequestHandle | ViCropError:
    try:
        return scheduler.submit(picture(task.row), task.text, task.params)
    except ViCropError as error:
        return error


def _told(task: Task, asked: RequestHandle | ViCropError) -> tuple[Task, Reply]:
    if isinstance(asked, ViCropError):
        return task, failed(asked)
    try:
        return task, answered(asked.future.result())
    except ViCropError as error:
        return task, failed(error)
