"""Many questions answered with Ray Data: pictures are kept together, and no row loses another."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import ray.data

from vicrop_engine.builder import resolve
from vicrop_engine.engine import ViCropEngine
from vicrop_engine.engine_dir.files import MANIFEST, hash_file
from vicrop_engine.errors import SettingError, ViCropError
from vicrop_engine.ray_data.answers import answer_line, answered_rows, append, appending
from vicrop_engine.ray_data.questions import Question, shard_size, shards
from vicrop_engine.serving.ask_batch import NO_DEADLINE
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.serving.settings import SchedulerSettings
from vicrop_engine.vicrop.params import AskParams

Columns = dict[str, npt.NDArray[Any]]
LEFT_OUT = ("heatmap", "timings")  # of an answer's JSON: large, and never twice the same


@dataclass(frozen=True)
class JobSettings:
    """`actors` engines with `cpus` cores and `gpus` each; `params` say how questions are answered.

    With `ways` a question says by number which of these it is answered with instead. `as_given` are prompts
    that hold a question as it is, see `ViCropEngine.as_given`.
    """

    engine: str
    actors: int = 1
    cpus: int = 1
    gpus: float = 0.0
    params: AskParams = field(default_factory=AskParams)
    ways: tuple[AskParams, ...] = ()
    as_given: bool = False

    def __post_init__(self) -> None:
        for name in ("actors", "cpus"):
            if getattr(self, name) < 1:
                raise SettingError(f"got {name} {getattr(self, name)!r}, wanted a whole number from 1 up")
        if self.gpus < 0:
            raise SettingError(f"got gpus {self.gpus!r}, wanted 0 or more")

    @property
    def run(self) -> str:
        """What the answers depend on: the engine's digest and the settings, in a few letters."""
        manifest = hash_file(Path(resolve(self.engine)) / MANIFEST).sha256
        return hashlib.sha256(f"{manifest} {self.params}".encode()).hexdigest()[:16]


class Asker:
    """An engine for `map_batches`: takes columns "image" (paths or encoded bytes) and "question".

    Adds "answer", the answer's JSON as text, or "" with a sentence in "error", and the "seconds" it took. A
    bad row loses no other. With `ways` a column "way" says by number how a row is answered.
    """

    def __init__(
        self,
        engine: str,
        cpus: int = 1,
        params: AskParams | None = None,
        ways: tuple[AskParams, ...] = (),
        as_given: bool = False,
    ) -> None:
        """Open an engine on so many cores; `params`, or `ways`, say how questions are answered."""
        usual = SchedulerSettings()
        bounds = replace(usual, workers=min(usual.workers, cpus), deadline=NO_DEADLINE)
        self._ways = ways or (params or AskParams(),)
        opened = ViCropEngine.load(engine, threads=cpus // bounds.workers)
        self._scheduler = Scheduler(opened.as_given() if as_given else opened, bounds)
        self._ahead = 2 * self._scheduler.settings.num_running

    def __call__(self, batch: Columns) -> Columns:
        """Answer the rows, several at a time, with the same results as one by one."""
        images, questions = batch["image"].tolist(), batch["question"].tolist()
        ways = batch["way"].tolist() if "way" in batch else [0] * len(images)
        handles = deque[RequestHandle]()
        results: list[tuple[str, str, float]] = []
        for image, question, way in zip(images, questions, ways, strict=True):
            if len(handles) == self._ahead:
                results.append(_texts(handles.popleft()))
            handles.append(self._scheduler.submit(image, question, self._ways[way]))
        results += map(_texts, handles)
        columns = (np.array(column, dtype=object) for column in zip(*results, strict=True))
        kept = {name: column for name, column in batch.items() if name != "image"}
        return {**kept, **dict(zip(("answer", "error", "seconds"), columns, strict=True))}


def open_ray(address: str | None) -> None:
    """Connect to the cluster at `address`, or start one of this machine alone, unless it is done."""
    if ray.is_initialized():
        return
    if address is None:
        ray.init(address="local", include_dashboard=False)
    else:
        ray.init(address=address)


def answer_file(questions: Sequence[Question], output: Path, settings: JobSettings) -> tuple[int, int]:
    """Answer the questions that `output` has no answer to yet, each written as soon as its piece is done.

    Returns how many were asked, and how many of these ended with an error. Needs an open Ray. Raises
    SettingError where `output` holds something else.
    """
    run = settings.run
    done = answered_rows(output, questions, run)
    left = {question.row: question for question in questions if question.row not in done}
    failed = 0
    if left:
        with appending(output) as file:
            for batch in answers(list(left.values()), settings):
                columns = zip(batch["row"].tolist(), batch["answer"], batch["error"], strict=True)
                lines = [answer_line(left[row], run, answer, error) for row, answer, error in columns]
                failed += sum(line["error"] is not None for line in lines)
                append(file, lines)
    return len(left), failed


def answers(questions: Sequence[Question], settings: JobSettings) -> Iterator[Columns]:
    """The columns row, question, answer, error and seconds, piece by piece as they get done."""
    tables = [_table(piece) for piece in shards(questions, settings.actors)]
    asked = ray.data.from_arrow(tables).map_batches(
        Asker,
        fn_constructor_args=(
            *(settings.engine, settings.cpus, settings.params),
            *(settings.ways, settings.as_given),
        ),
        batch_size=shard_size(len(questions), settings.actors),
        batch_format="numpy",
        num_cpus=settings.cpus,
        num_gpus=settings.gpus or None,
        compute=ray.data.ActorPoolStrategy(size=min(settings.actors, len(tables))),
    )
    yield from asked.iter_batches(batch_size=None, batch_format="numpy")


def _table(piece: Sequence[Question]) -> pa.Table:
    """All pictures of a piece by name, or all by content."""
    images = [question.image for question in piece]
    return pa.table(
        {
            "row": [question.row for question in piece],
            "image": [image if isinstance(image, bytes) else str(image) for image in images],
            "question": [question.question for question in piece],
            "way": [question.way for question in piece],
        }
    )


def _texts(handle: RequestHandle) -> tuple[str, str, float]:
    """The answer's JSON and no error, or the other way round, and the seconds of the answer."""
    try:
        document = handle.future.result().to_json()
    except ViCropError as error:
        return "", str(error), 0.0
    kept = {key: value for key, value in document.items() if key not in LEFT_OUT}
    return json.dumps(kept), "", document["timings"]["total"]
