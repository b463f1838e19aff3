"""An engine with random weights, pictures and a cache of each test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

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
