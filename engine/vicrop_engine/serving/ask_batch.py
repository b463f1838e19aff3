"""A list of questions answered through a scheduler of their own, in order. Knows nothing of stages."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from vicrop_engine.errors import ViCropError
from vicrop_engine.images.picture import ImageInput
from vicrop_engine.serving.executor import Engine
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.serving.settings import SchedulerSettings
from vicrop_engine.vicrop.answer import Answer
from vicrop_engine.vicrop.params import AskParams

NO_DEADLINE = 10.0 * 365 * 24 * 3600


def answer_all(
    engine: Engine, items: Iterable[tuple[ImageInput, str]], params: AskParams
) -> list[Answer | ViCropError]:
    """An answer, or the error that ended it, for every (image, question).

    Only so many are taken from `items` ahead that nothing stands idle.
    """
    results: list[Answer | ViCropError] = []
    bounds = SchedulerSettings(deadline=NO_DEADLINE)
    with Scheduler(engine, bounds) as scheduler:
        handles: deque[RequestHandle] = deque()
        for image, question in items:
            if len(handles) == bounds.waiting:
                results.append(_result(handles.popleft()))
            handles.append(scheduler.submit(image, question, params))
        results += [_result(handle) for handle in handles]
    return results


def _result(handle: RequestHandle) -> Answer | ViCropError:
    try:
        return handle.future.result()
    except ViCropError as error:
        return error
