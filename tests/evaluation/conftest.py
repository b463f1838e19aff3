"""A cache of data sets of these tests' own, and runs of `eval` in this process."""

from __future__ import annotations

from tests.cli.conftest import run
from tests.evaluation.data_cache import data_cache
from tests.own_home import own_home

__all__ = ["data_cache", "own_home", "run"]
