"""One request's way through the stages that all requests share."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Protocol

from vicrop_engine.counters import Tally
from vicrop_engine.engine_dir.memory import ROOM
from vicrop_engine.images.cache import OpenedPicture
from vicrop_engine.images.picture import open_picture
from vicrop_engine.model.kv_cache import roomy
from vicrop_engine.model.model import Model
from vicrop_engine.model.prompts import Ids
from vicrop_engine.serving.decode_batch import DecodeBatch
from vicrop_engine.serving.job import Job, OnText
from vicrop_engine.serving.request_decoder import ServedDecoder
from vicrop_engine.serving.request_model import ServedModel, SharedPrefixes
from vicrop_engine.serving.settings import SchedulerSettings
from vicrop_engine.serving.single_flight import SingleFlight
from vicrop_engine.serving.vision_batch import ServedVision, VisionStage
from vicrop_engine.serving.worker_slots import WorkerSlot, WorkerSlots
from vicrop_engine.timing import Stopwatch
from vicrop_engine.vicrop.answer import Answer
from vicrop_engine.vicrop.ask import answered, seen_picture


class BatchedExecutor:
    """Answers jobs on several threads at once; what they share is made once and kept."""

    def __init__(self, model: Model, settings: SchedulerSettings) -> None:
        self._model, self._settings = model, settings
        self._worker_slots = WorkerSlots(settings.workers)
        self._pictures: SingleFlight[OpenedPicture] = SingleFlight(settings.picture_bytes)
        self._prefixes = SharedPrefixes(model.prefixes.capacity)
        self._vision = VisionStage(model.vision, settings.vision_batch, model.vision.cache.capacity)
        self._gradients = threading.Lock()
        decoder, vision = model.manifest.decoder, model.manifest.vision
        capacity = min(roomy(2 * vision.image_tokens + 4 * ROOM), decoder.context_length)
        self._batch = DecodeBatch(model.decoder, self._worker_slots, settings.answers, capacity, model.tally)

    @property
    def kv_usage(self) -> float:
        """Share of the rows of all slots that is in use, 0 to 1."""
        return self._batch.num_rows / (self._batch.count * self._batch.capacity)

    def answer(self, job: Job) -> Answer:
        """Work on a job until it is answered. Raises ViCropError, of the job's subscribers or of the work."""
        self._model.tools.prepare(job.settings.method)
        watch = Stopwatch(self._model.tally.clock)
        worker = WorkerSlot(self._worker_slots, job.place, job.check, heavy=job.is_heavy)
        worker.is_early = self._settings.vision_batch > 1  # so that pictures come together in line
        with worker:
            key = job.source.digest, job.request.compat
            opened = self._pictures.get(key, worker, lambda: self._open(job))
            worker.boundary()
            job.request.check_picture(opened.picture.size)
            decoder = self._decoder(job, worker)
            model = self._served(job, worker, decoder)
            try:
                return answered(model, job.request, opened.picture, watch, seen=opened.seen)
            finally:
                decoder.leave()

    def forget(self) -> None:
        """Let go of what is kept of pictures, as if none had been asked about."""
        for cache in (self._pictures.cache, self._prefixes.cache, self._vision.cache):
            cache.clear()

    def close(self) -> None:
        """End the thread that decodes."""
        self._batch.close()

    def _open(self, job: Job) -> OpenedPicture:
        picture = open_picture(job.source.image)
        return OpenedPicture(picture, seen_picture(self._model, picture, job.request))

    def _decoder(self, job: Job, worker: WorkerSlot) -> ServedDecoder:
        """The decoder as this job sees it; without a crop the first answer is the final one."""
        request, tally = job.request, job.first.tally
        first, final = self._told(job.tell_first), self._told(job.tell_final)
        return ServedDecoder(
            decoder=self._model.decoder.counted_by(tally),
            batch=self._batch,
            worker=worker,
            tally=tally,
            ended=lambda: job.ended,
            chunk=self._settings.prefill_chunk,
            max_new_tokens=request.max_new_tokens,
            on_tokens=(
                final if request.localizer is None else first if request.first_answer else None,
                final,
            ),
        )

    def _served(self, job: Job, worker: WorkerSlot, decoder: ServedDecoder) -> ServedModel:
        """The engine as this job sees it."""
        tally = job.first.tally
        own = {
            "vision": ServedVision(self._vision, worker, tally),
            "decoder": decoder,
            "tally": tally,
            "shared": self._prefixes,
            "turn": worker,
            "gradients_lock": self._gradients,
        }
        same = {item.name: getattr(self._model, item.name) for item in dataclasses.fields(self._model)}
        return ServedModel(**{**same, **own})

    def _told(self, on_text: OnText) -> Callable[[Ids], None]:
        prompts = self._model.prompts

        def tell(ids: Ids) -> None:
            on_text(prompts.decode(ids))

        return tell


def request_tally(model: Model) -> Tally:
    """What counts for one request, as part of the engine's."""
    return Tally(model.tally.clock, model.tally)


class Engine(Protocol):
    """An open engine: ViCropEngine."""

    @property
    def model(self) -> Model:
        """Its parts."""

    @property
    def ask(self) -> Callable[..., Answer]:
        """One answer to an image and a question, while nothing else is answered."""

    def forget(self) -> None:
        """Let go of what is kept of pictures."""


class SequentialExecutor:
    """Answers jobs one at a time."""

    kv_usage = 0.0

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def answer(self, job: Job) -> Answer:
        """Answer a job. Raises ViCropError."""
        settings = vars(job.settings)
        return self._engine.ask(job.source.image, job.question, on_first_answer=job.tell_first, **settings)

    def forget(self) -> None:
        """Let go of what is kept of pictures, as if none had been asked about."""
        self._engine.forget()

    def close(self) -> None:
        """Nothing is left to end."""
