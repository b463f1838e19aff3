"""The application the tests run: two replicas of the embedded engine."""

from __future__ import annotations

from collections.abc import Callable

from vicrop_engine.ray_serve.settings import read_arguments
from vicrop_engine.vicrop.answer import Answer

PLAN = read_arguments({"engine": "llava-signs", "min_replicas": "2", "max_replicas": "2"})
Ask = Callable[..., Answer]  # as Scheduler.submit
