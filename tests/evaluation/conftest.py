"""A cache of data sets of these tests' own, and runs of `eval` in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import run
from tests.own_home import own_home

__all__ = ["own_home", "run"]


@pytest.fixture(scope="session", autouse=True)
def data_cache() -> Iterator[None]:
    """Where the library puts what it makes of data files."""
    import datasets

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(datasets.config, "HF_DATASETS_CACHE", Path(folder))
        datasets.disable_progress_bars()
        yield
