"""Tasks answered by engines on a Ray cluster, through the job of `ray_data`, in waves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from vicrop_engine.errors import RayMissingError, ViCropError
from vicrop_engine.evaluation.asking import PictureOf
from vicrop_engine.evaluation.plan import Task
from vicrop_engine.evaluation.question import PictureFile
from vicrop_engine.evaluation.reply import Reply, answered_json, failed
from vicrop_engine.ray_data.environment import prepare_environment
from vicrop_engine.ray_data.questions import Question

WAVE_TASKS, WAVE_BYTES = 4096, 1 << 30  # handed to Ray at once: engines are opened anew for each wave


class OnRay:
    """`actors` engines of `cpus` cores and `gpus` each, on a cluster at `address` or on this machine."""

    def __init__(self, engine: str, actors: int, cpus: int, gpus: float, address: str | None) -> None:
        """Open Ray. Raises RayMissingError, and SettingError for numbers that cannot be."""
        prepare_environment(address)
        try:
            from vicrop_engine.ray_data.job import JobSettings, open_ray
        except ModuleNotFoundError as error:
            raise RayMissingError("eval --ray", error.name) from error
        self._settings = JobSettings(engine, actors, cpus, gpus, as_given=True)
        self._engine, self._address, self._open = Path(engine), address, open_ray

    def check(self, task: Task) -> None:
        """Nothing: an engine would have to be opened here for it. A refused setting is every task's error."""

    def replies(self, tasks: Iterable[Task], picture: PictureOf) -> Iterator[tuple[Task, Reply]]:
        """As they come, a piece of a wave at a time."""
        for wave in _waves(tasks, picture):
            for task, found in wave:
                if isinstance(found, ViCropError):
                    yield task, failed(found)
            for kind in (bytes, Path):  # a table's column holds one of the two
                sound = {
                    number: (task, found)
                    for number, (task, found) in enumerate(wave)
                    if isinstance(found, kind)
                }
                if sound:
                    yield from self._answered(sound)

    def _answered(self, wave: Mapping[int, tuple[Task, PictureFile]]) -> Iterator[tuple[Task, Reply]]:
        from vicrop_engine.ray_data.job import answers

        self._open(self._address)
        ways = list({repr(task.params): task.params for task, _ in wave.values()}.values())
        places = {repr(params): place for place, params in enumerate(ways)}
        questions = [
            Question(number, _content(found), task.text, {}, places[repr(task.params)])
            for number, (task, found) in wave.items()
        ]
        for batch in answers(questions, replace(self._settings, ways=tuple(ways))):
            columns = (batch[name].tolist() for name in ("row", "answer", "error", "seconds"))
            for number, answer, error, seconds in zip(*columns, strict=True):
                task = wave[number][0]
                yield task, Reply({}, error=error) if error else answered_json(json.loads(answer), seconds)


def _content(found: PictureFile) -> Path | bytes:
    return found if isinstance(found, bytes) else Path(os.path.abspath(found))


def _waves(
    tasks: Iterable[Task], picture: PictureOf
) -> Iterator[list[tuple[Task, PictureFile | ViCropError]]]:
    """Tasks with their pictures, or with what is wrong with these, so many that they fit memory."""
    wave: list[tuple[Task, PictureFile | ViCropError]] = []
    held = 0
    for task in tasks:
        try:
            found: PictureFile | ViCropError = picture(task.row)
        except ViCropError as error:
            found = error
        wave.append((task, found))
        held += len(found) if isinstance(found, bytes) else 0
        if len(wave) == WAVE_TASKS or held >= WAVE_BYTES:
            yield wave
            wave, held = [], 0
    if wave:
        yield wave
