"""Benchmarks through the `datasets` library: from the hub, or from a directory or parquet file of its layout.

Rows lie on the disk, mapped into memory; a picture is read when it is asked about. HF_HUB_OFFLINE and the
hub's cache are the library's own affair.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol, cast

from vicrop_engine.engine_dir.files import hash_file
from vicrop_engine.errors import DatasetError, DatasetsMissingError, ImageError
from vicrop_engine.evaluation.benchmarks.benchmark import Benchmark, Place
from vicrop_engine.evaluation.question import Origin, PictureFile, Question
from vicrop_engine.evaluation.sources.columns import Row, cell, picture

UNKNOWN = "unknown"
DATA_FILES = (".parquet", ".arrow", ".jsonl", ".json", ".csv")
_COMMIT = re.compile(r"@([0-9a-f]{40})/")


class Table(Protocol):
    """A split as the library gives it."""

    @property
    def column_names(self) -> list[str]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, key: int) -> Row: ...
    def remove_columns(self, names: list[str]) -> Table: ...


class HubQuestions:
    """The questions of a benchmark's split; pictures stay where they are until they are asked for."""

    def __init__(self, benchmark: Benchmark, origin: Origin, table: Table, pictures: Pictures) -> None:
        if benchmark.joined is None and benchmark.image not in table.column_names:
            cell(dict.fromkeys(table.column_names), benchmark.image)
        self._benchmark, self._origin, self._pictures = benchmark, origin, pictures
        heavy = [name for name in (benchmark.image,) if name in table.column_names]
        self._texts = table.remove_columns(heavy)

    @property
    def origin(self) -> Origin:
        """Where they are from."""
        return self._origin

    def question(self, number: int) -> Question:
        """Question `number`. Raises DatasetError for a row that is not as the benchmark's are."""
        return self._benchmark.read({"id": str(number), **self._texts[number]})

    def picture(self, number: int) -> PictureFile:
        """Its picture. Raises ImageError where there is none."""
        return self._pictures.picture(number)


class Pictures(Protocol):
    """Pictures by the number of the question."""

    def picture(self, number: int) -> PictureFile: ...


class OwnPictures:
    """Pictures that stand in the questions' own rows."""

    def __init__(self, benchmark: Benchmark, table: Table) -> None:
        self._benchmark, self._table = benchmark, table

    def picture(self, number: int) -> PictureFile:
        """Of row `number`."""
        return self._benchmark.picture(self._table[number], self._benchmark.image)


class JoinedPictures:
    """Pictures of another table, found by a column of the question's row: many questions share one."""

    def __init__(self, benchmark: Benchmark, table: Table, pictures: Table, names: tuple[str, str]) -> None:
        self._benchmark, self._table, self._pictures, self._here = benchmark, table, pictures, names[0]
        slim = pictures.remove_columns([benchmark.image])
        self._rows = {cell(slim[row], names[1]): row for row in range(len(slim))}

    def picture(self, number: int) -> PictureFile:
        """Of row `number`. Raises ImageError where the other table has none for it."""
        name = cell(self._table[number], self._here)
        if name not in self._rows:
            raise ImageError(f"there is no picture {name!r} for this question; fetch the data set again")
        return self._benchmark.picture(self._pictures[self._rows[name]], self._benchmark.image)


def open_benchmark(benchmark: Benchmark, given: Path | None = None) -> HubQuestions:
    """The questions of a benchmark, from `given`, a directory or a parquet file, else from the hub.

    Raises DatasetsMissingError, and DatasetError where none can be opened.
    """
    name, revision, table = _open(benchmark.place, given)
    pictures: Pictures = OwnPictures(benchmark, table)
    if benchmark.joined is not None:
        place, names = benchmark.joined
        pictures = JoinedPictures(benchmark, table, _open(place, given)[2], names)
    config, split = benchmark.place.config or "default", benchmark.place.split
    return HubQuestions(benchmark, Origin(name, revision, config, split, len(table)), table, pictures)


def open_parquet(benchmark: Benchmark, path: Path) -> HubQuestions:
    """A parquet file of one's own; pictures in it, or beside it by their names. Raises DatasetError."""
    beside = replace(benchmark, picture=partial(picture_beside, path))
    _, revision, table = _open(benchmark.place, path)
    origin = Origin(path.name, revision, "default", "all", len(table))
    return HubQuestions(beside, origin, table, OwnPictures(beside, table))


def picture_beside(path: Path, row: Row, column: str) -> PictureFile:
    """The picture of a row: its content, or the file of that name beside the list at `path`."""
    value = cell(row, column)
    found = Path(value) if isinstance(value, str) else picture(row, column)
    return path.parent / found if isinstance(found, Path) else found


def _open(place: Place, given: Path | None) -> tuple[str, str, Table]:
    """Name, revision and rows. Raises DatasetError, saying what was tried."""
    if given is not None and not given.exists():
        of = f" of {place.ids[0]}" if place.ids else ""
        raise DatasetError(f"there is no {given}; give a directory or a parquet file{of}")
    digest = None if given is None else _digest(given)
    tried = []
    for source in [str(given)] if given is not None else place.ids:
        try:
            table = _load(source, place, digest)
        except DatasetsMissingError:
            raise
        except Exception as error:  # the library, and the hub's client below it, raise of all kinds
            tried.append(f"{source} ({' '.join(str(error).split())[:200]})")
            continue
        if given is not None and digest is not None:
            return (place.ids or (given.name,))[0], f"sha256:{digest}", table
        return source, _commit(table), table
    raise DatasetError(
        f"the data set cannot be opened; tried {', '.join(tried)}; give a copy of your own as BENCHMARK=PATH"
    )


def _load(source: str, place: Place, digest: str | None) -> Table:
    """The split. A copy's tables are kept by its content: the library knows a directory by its name and card
    alone and would give the tables of the copy that it saw first."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise DatasetsMissingError("this benchmark") from error
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    cache = None if digest is None else str(Path(datasets.config.HF_DATASETS_CACHE) / digest)
    if source.endswith(".parquet"):
        found = datasets.load_dataset(
            "parquet", data_files={place.split: source}, split=place.split, cache_dir=cache
        )
    elif (Path(source) / "state.json").is_file():
        found = datasets.load_from_disk(source)
    else:
        found = datasets.load_dataset(source, name=place.config, split=place.split, cache_dir=cache)
    for name, feature in found.features.items():
        if isinstance(feature, datasets.Image):
            found = found.cast_column(name, datasets.Image(decode=False))
    return cast(Table, found)


def _commit(table: Table) -> str:
    """The commit of the hub that a split was made of, as the library keeps it with its files."""
    info = getattr(table, "info", None)
    sums = getattr(info, "download_checksums", None)
    names = list(sums) if isinstance(sums, Mapping) else []
    found = {match[1] for match in map(_COMMIT.search, names) if match}
    return found.pop() if len(found) == 1 else UNKNOWN


def _digest(given: Path) -> str:
    """A digest of a file, or of all data files of a directory with their names."""
    if given.is_file():
        return hash_file(given).sha256[:16]
    digest = hashlib.sha256()
    for path in _data_files(given):
        digest.update(f"{path.relative_to(given).as_posix()} {hash_file(path).sha256}\n".encode())
    return digest.hexdigest()[:16]


def _data_files(directory: Path) -> Iterable[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.suffix in DATA_FILES)
