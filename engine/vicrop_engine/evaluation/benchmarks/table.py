"""The benchmarks by name."""

from __future__ import annotations

from vicrop_engine.errors import SettingError, one_of
from vicrop_engine.evaluation.benchmarks.benchmark import Benchmark
from vicrop_engine.evaluation.benchmarks.choices import CHOICES
from vicrop_engine.evaluation.benchmarks.pointing import POINTING
from vicrop_engine.evaluation.benchmarks.short_answers import SHORT_ANSWERS
from vicrop_engine.evaluation.benchmarks.signs import OWN, SIGNS

BENCHMARKS = {each.name: each for each in (*SHORT_ANSWERS, *CHOICES, SIGNS, *POINTING)}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of this name; "data" is one's own list. Raises SettingError with the nearest name."""
    if name == OWN.name:
        return OWN
    if name not in BENCHMARKS:
        raise SettingError(one_of("benchmark", name, BENCHMARKS))
    return BENCHMARKS[name]
