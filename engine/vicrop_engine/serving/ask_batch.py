"""A list of questions answered through a scheduler of their own, in order. Knows nothing of stages."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from vicrop_engine.errors import ItemError, ViCropError, shown
from vicrop_engine.serving.executor import Engine
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.serving.settings import SchedulerSettings
from vicrop_engine.vicrop.answer import Answer
from vicrop_engine.vicrop.params import AskParams

NO_DEADLINE = 10.0 * 365 * 24 * 3600


def answer_all(engine: Engine, items: Iterable[object], params: AskParams) -> list[Answer | ViCropError]:
    """An answer, or the error that ended it, for every (image, question).

    Only so many are taken from `items` ahead that nothing stands idle. An item of another shape is an error
    of its own; a source that raises ends the list with that, and what was asked before is answered.
    """
    results: list[Answer | ViCropError] = []
    bounds = SchedulerSettings(deadline=NO_DEADLINE)
    with Scheduler(engine, bounds) as scheduler:
        asked: deque[RequestHandle | ViCropError] = deque()
        for item in _taken(items):
            if len(asked) == bounds.waiting:
                results.append(_result(asked.popleft()))
            asked.append(_submitted(scheduler, item, params))
        results += [_result(each) for each in asked]
    return results


def _taken(items: Iterable[object]) -> Iterator[object]:
    """The items, and last the error of a source that fails."""
    try:
        yield from items
    except Exception as error:
        failed = ItemError(f"the source of questions failed here ({type(error).__name__}: {error})")
        failed.__cause__ = error
        yield failed


def _submitted(scheduler: Scheduler, item: object, params: AskParams) -> RequestHandle | ViCropError:
    if isinstance(item, ViCropError):
        return item
    if not isinstance(item, Sequence) or isinstance(item, str | bytes) or len(item) != 2:
        return ItemError(f"got {shown(item)} as an item of a batch, wanted a picture and a question")
    image, question = item
    if not isinstance(question, str):
        return ItemError(f"got {shown(question)} as the question of an item, wanted text")
    if image is None:  # which to a scheduler is text alone
        return ItemError("got None as the picture of an item, wanted a path, bytes, an image or an array")
    try:
        return scheduler.submit(image, question, params)
    except ViCropError as error:
        return error


def _result(asked: RequestHandle | ViCropError) -> Answer | ViCropError:
    if isinstance(asked, ViCropError):
        return asked
    try:
        return asked.future.result()
    except ViCropError as error:
        return error
