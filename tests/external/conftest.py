"""An engine with random weights, pictures and a cache of each test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.engines import STRETCH_168, built


@pytest.fixture(scope="session")
def engine_directory() -> Path:
    """A small engine that knows nothing of the localizer models; never change it, copy it."""
    return built(STRETCH_168).engine


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("VICROP_HOME", str(cache))
    return cache


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Models this small are slower on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
