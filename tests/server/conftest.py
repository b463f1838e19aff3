"""One server over the embedded engine, shared by the tests that only ask it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.running import MODEL, Running, serving, wait_until
from vicrop_engine import ViCropEngine
from vicrop_engine.server.ops.logs import LOGGERS
from vicrop_engine.server.settings import ServerSettings
from vicrop_engine.serving.scheduler import Scheduler


@pytest.fixture(scope="session")
def engine() -> ViCropEngine:
    """The embedded engine."""
    return ViCropEngine.load(MODEL, threads=1)


@pytest.fixture(scope="session")
def server(engine: ViCropEngine) -> Iterator[Running]:
    """A server that is ready."""
    with Scheduler(engine) as scheduler, serving(scheduler) as running:
        wait_until(lambda: running.app.state.readiness.is_ready)
        yield running


@pytest.fixture(scope="session")
def strict_server(engine: ViCropEngine) -> Iterator[Running]:
    """One that refuses what others leave out."""
    with Scheduler(engine) as scheduler, serving(scheduler, ServerSettings(strict=True)) as running:
        wait_until(lambda: running.app.state.readiness.is_ready)
        yield running


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Where records go is as it was after a test of the command line."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICROP_HOME", str(tmp_path / "vicrop-home"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
