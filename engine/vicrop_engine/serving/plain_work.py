"""Requests one after the other, for engines whose graphs take no batches: for a device, or old ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from vicrop_engine.model import Model
from vicrop_engine.result import Answer
from vicrop_engine.serving.job import Job


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


class PlainWork:
    """Answers jobs one at a time."""

    kv_usage = 0.0

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def answer(self, job: Job) -> Answer:
        """Answer a job. Raises ViCropError."""
        settings = vars(job.settings)
        return self._engine.ask(job.source.image, job.question, on_first_answer=job.hear_first, **settings)

    def forget(self) -> None:
        """Let go of what is kept of pictures, as if none had been asked about."""
        self._engine.forget()

    def close(self) -> None:
        """Nothing is left to end."""
