"""One request's way through the stages that all requests share."""

from __future__ import annotations

from typing import Protocol

from vicrop_engine.counters import Tally
from vicrop_engine.engine_dir.memory import ROOM
from vicrop_engine.images.cache import Source
from vicrop_engine.model.decoder import HostDecoder
from vicrop_engine.model.instructed import InstructedGradients, InstructedStage
from vicrop_engine.model.kv_cache import roomy
from vicrop_engine.model.model import Model
from vicrop_engine.model.states import of_kind
from vicrop_engine.model.vision import HostVisionTower
from vicrop_engine.serving.decode_batch import DecodeBatch
from vicrop_engine.serving.job import Job, OnText
from vicrop_engine.serving.request_decoder import RequestDecoder
from vicrop_engine.serving.request_model import RequestModel, request_model
from vicrop_engine.serving.settings import SchedulerSettings
from vicrop_engine.serving.vision_batch import RequestVision, VisionBatch
from vicrop_engine.serving.worker_slots import WorkerSlot, WorkerSlots
from vicrop_engine.timing import Stopwatch
from vicrop_engine.vicrop.answer import Answer
from vicrop_engine.vicrop.ask import opened_picture, run_ask
from vicrop_engine.vicrop.fitting import fitted
from vicrop_engine.vicrop.params import AskParams
from vicrop_engine.vicrop.request import Request
from vicrop_engine.vicrop.text_alone import TEXT_ALONE, run_text


class BatchedExecutor:
    """Answers jobs on several threads at once; what they share is made once and kept by the model."""

    def __init__(self, model: Model, settings: SchedulerSettings) -> None:
        self._model, self._settings = model, settings
        self._decoder = of_kind(HostDecoder, model.decoder)
        self._worker_slots = WorkerSlots(settings.workers)
        self._vision = VisionBatch(of_kind(HostVisionTower, model.vision), settings.vision_batch)
        model.pictures.widen(settings.kept_bytes)
        manifest = model.manifest
        tokens = manifest.picture_tokens + manifest.crop_tokens + 4 * ROOM
        capacity = min(roomy(tokens), manifest.decoder.context_length)
        self._batch = DecodeBatch(self._decoder, self._worker_slots, settings.answers, capacity, model.tally)

    @property
    def kv_usage(self) -> float:
        """Share of the rows of all slots that is in use, 0 to 1."""
        return self._batch.num_rows / (self._batch.count * self._batch.capacity)

    def answer(self, job: Job) -> Answer:
        """Work on a job until it is answered. Raises ViCropError, of the job's subscribers or of the work."""
        if job.source is not TEXT_ALONE:
            self._model.tools.prepare(job.params.method)
        watch = Stopwatch(self._model.tally.clock)
        worker = WorkerSlot(self._worker_slots, job.place, job, heavy=job.is_heavy)
        worker.is_early = self._settings.vision_batch > 1  # so that pictures come together in line
        with worker:
            if job.source is TEXT_ALONE:
                with self._decoder_of(job, job.request, worker) as decoder:
                    return run_text(self._model_of(job, worker, decoder), job.request, watch)
            opened = opened_picture(self._model, job.request, job.source, watch, worker.result)
            job.hold(opened.nbytes)
            worker.boundary()
            request = fitted(self._model, job.request, opened.seen.layout)
            with self._decoder_of(job, request, worker) as decoder:
                return run_ask(self._model_of(job, worker, decoder), request, opened, watch)

    def forget(self) -> None:
        """Let go of what is kept of pictures, as if none had been asked about."""
        self._model.forget()

    def close(self) -> None:
        """End the thread that decodes."""
        self._batch.close()

    def _decoder_of(self, job: Job, request: Request, worker: WorkerSlot) -> RequestDecoder:
        """The decoder as this job sees it; without a crop the first answer is the final one."""
        tally, decoded = job.first.tally, self._model.prompts.decoded
        first, final = (decoded(tell, request.form) for tell in (job.tell_first, job.tell_final))
        on_first = final if request.localizer is None else first if request.first_answer else None
        return RequestDecoder(
            decoder=self._decoder.counted_by(tally),
            batch=self._batch,
            worker=worker,
            tally=tally,
            ended=lambda: job.ended,
            chunk=self._settings.prefill_chunk,
            max_new_tokens=request.max_new_tokens,
            on_tokens=(on_first, final),
            rules=request.rules,
        )

    def _model_of(self, job: Job, worker: WorkerSlot, decoder: RequestDecoder) -> RequestModel:
        """The engine as this job sees it."""
        tally, stage, looks = job.first.tally, self._model.instructed, self._model.helpful_looks
        return request_model(
            self._model,
            RequestVision(self._vision, worker, tally),
            decoder,
            tally,
            worker,
            None if stage is None else of_kind(InstructedStage, stage).counted_by(tally),
            None if looks is None else of_kind(InstructedGradients, looks).counted_by(tally),
        )


def request_tally(model: Model) -> Tally:
    """What counts for one request, as part of the engine's."""
    return Tally(model.tally.clock, model.tally)


class Engine(Protocol):
    """An open engine: ViCropEngine."""

    @property
    def model(self) -> Model:
        """Its parts."""

    def answer(
        self, source: Source, question: str, params: AskParams, on_text: OnText | None = None
    ) -> Answer:
        """One answer to a picture and a question, while nothing else is answered."""


class SequentialExecutor:
    """Answers jobs one at a time."""

    kv_usage = 0.0

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def answer(self, job: Job) -> Answer:
        """Answer a job. Raises ViCropError."""
        return self._engine.answer(job.source, job.question, job.params, job.tell_first)

    def forget(self) -> None:
        """Let go of what is kept of pictures, as if none had been asked about."""
        self._engine.model.forget()

    def close(self) -> None:
        """Nothing is left to end."""


class Executor(Protocol):
    """What answers the scheduler's jobs."""

    @property
    def kv_usage(self) -> float:
        """Share of the KV arena that answers being decoded use, 0 to 1."""

    def answer(self, job: Job) -> Answer:
        """Answer a job. Raises ViCropError."""

    def forget(self) -> None:
        """Let go of what is kept of pictures, as if none had been asked about."""

    def close(self) -> None:
        """End what runs beside the jobs."""


def executor_for(engine: Engine, settings: SchedulerSettings) -> Executor:
    """Several jobs at a time where the engine's graphs take steps of several answers, else one."""
    decoder = engine.model.decoder
    if isinstance(decoder, HostDecoder) and decoder.takes_batches:
        return BatchedExecutor(engine.model, settings)
    return SequentialExecutor(engine)
