"""Where the `datasets` library puts what it makes of data files: a place of each test file's own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module", autouse=True)
def data_cache() -> Iterator[None]:
    """A cache of data sets that is new and goes with the file."""
    import datasets

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(datasets.config, "HF_DATASETS_CACHE", Path(folder))
        datasets.disable_progress_bars()
        yield
