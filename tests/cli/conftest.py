"""Running the command line in this process: status, standard output and standard error of one call."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from tests.engines import STRETCH_168, built
from vicrop_engine import cli


@dataclass(frozen=True)
class Ran:
    """What one call of the command line gave."""

    status: int
    out: str
    err: str


class Run(Protocol):
    """Call the command line with these arguments."""

    def __call__(self, *arguments: str | Path) -> Ran: ...


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """The command line; the package's log goes back to what it was afterwards."""
    logger = logging.getLogger("vicrop_engine")
    handlers, propagate = logger.handlers, logger.propagate

    def call(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        status = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    yield call
    logger.handlers, logger.propagate = handlers, propagate


@pytest.fixture(scope="session")
def engine_directory() -> Path:
    """A small engine with random weights; never change it, copy it."""
    return built(STRETCH_168).engine


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("VICROP_HOME", str(cache))
    return cache


def refused(ran: Ran, *words: str) -> None:
    """Check for one sentence on standard error with these words, nothing printed, and exit status 2."""
    assert ran.out == ""
    assert ran.status == 2, ran.err
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1, ran.err
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err
