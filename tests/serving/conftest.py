"""The embedded engine, which all of these tests only read, and schedulers on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from tests.engines import GROUPED_224, built
from vicrop_engine import ViCropEngine
from vicrop_engine.serving.decode_batch import DecodeBatch, DecodingSequence, _has_ended
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.serving.settings import SchedulerSettings
from vicrop_export.build import build_engine

Start = Callable[..., Scheduler]
Small = Callable[[str], ViCropEngine]


@pytest.fixture(scope="session")
def engine() -> ViCropEngine:
    """The embedded engine on one core, as each worker of a server has it."""
    return ViCropEngine.load("llava-signs", threads=1)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Opens a small engine with random weights of this precision, with layers in the upper graph."""

    @cache
    def opened(precision: str) -> ViCropEngine:
        directory = tmp_path_factory.mktemp(precision) / "engine"
        build_engine(built(GROUPED_224).checkpoint, directory, name="llava-signs", precision=precision)
        return ViCropEngine.load(directory, threads=1)

    return opened


@pytest.fixture
def start(engine: ViCropEngine) -> Iterator[Start]:
    """Starts a scheduler with these settings, closed when the test ends."""
    started: list[Scheduler] = []

    def start(engine: ViCropEngine = engine, **settings: Any) -> Scheduler:
        engine.forget()  # what other tests have asked
        started.append(Scheduler(engine, SchedulerSettings(**settings)))
        return started[-1]

    yield start
    for scheduler in started:
        scheduler.close(drain=False)


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether it comes to hold within some seconds."""
    end = time.monotonic() + 20
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Decoding stands still until this is set, so that requests stay under way."""
    goes_on, step = threading.Event(), DecodeBatch._step

    def stepping(batch: DecodeBatch) -> list[DecodingSequence]:
        if goes_on.wait(0.01):
            return step(batch)
        with batch._changed:
            batch._leave(_has_ended)
        return []

    monkeypatch.setattr(DecodeBatch, "_step", stepping)
    return goes_on
