"""The questions of a benchmark by its name, wherever they are."""

from __future__ import annotations

from pathlib import Path

from vicrop_engine.errors import DatasetError, SettingError
from vicrop_engine.evaluation.benchmarks.benchmark import Benchmark
from vicrop_engine.evaluation.benchmarks.signs import OWN, SIGNS
from vicrop_engine.evaluation.sources.hub import open_benchmark
from vicrop_engine.evaluation.sources.lists import built_in_signs, own_list, vstar_files
from vicrop_engine.evaluation.sources.rows import Questions

VSTAR_BOXES = "vstar-boxes"


def open_questions(benchmark: Benchmark, given: Path | None) -> Questions:
    """The questions, from `given` where there is a copy of one's own.

    Raises SettingError, DatasetError and DatasetsMissingError.
    """
    if benchmark is SIGNS:
        if given is not None:
            raise SettingError(f"got signs={given}, and the signs are built in; give your own list as --data")
        return built_in_signs()
    if benchmark is OWN:
        assert given is not None, "one's own list is always given"
        return own_list(given, benchmark)
    if benchmark.name == VSTAR_BOXES:
        if given is None or not given.is_dir():
            raise DatasetError(
                f"{VSTAR_BOXES} needs {benchmark.place.ids[0]} as files; fetch it from the hub and give its "
                f"directory as {VSTAR_BOXES}=DIR"
            )
        return vstar_files(given, benchmark)
    return open_benchmark(benchmark, given)
