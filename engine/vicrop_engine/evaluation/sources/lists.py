"""Questions in this process: the built-in signs, a list of one's own, V*'s own files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from vicrop_engine.engine_dir.files import hash_file
from vicrop_engine.errors import DatasetError
from vicrop_engine.evaluation.benchmarks.benchmark import Benchmark
from vicrop_engine.evaluation.question import Origin, PictureFile, Question
from vicrop_engine.evaluation.sources.columns import Row, text
from vicrop_engine.evaluation.sources.hub import open_parquet, picture_beside
from vicrop_engine.evaluation.sources.rows import Questions
from vicrop_engine.examples import EXAMPLES, SIGNS, signs
from vicrop_engine.user_text import read_text, text_lines

T = TypeVar("T")
R = TypeVar("R")
WANTED = 'lines of JSON with "image", "question" and "answers", or a parquet file with these columns'


class ListedQuestions:
    """Questions that were read already; a picture is a file beside the list, or content in a row."""

    def __init__(
        self, origin: Origin, questions: Sequence[Question], pictures: Sequence[PictureFile]
    ) -> None:
        self._origin, self._questions, self._pictures = origin, questions, pictures

    @property
    def origin(self) -> Origin:
        """Where they are from."""
        return self._origin

    def question(self, number: int) -> Question:
        """Question `number`."""
        return self._questions[number]

    def picture(self, number: int) -> PictureFile:
        """Its picture."""
        return self._pictures[number]


def built_in_signs() -> ListedQuestions:
    """The signs inside the package."""
    listed = signs()
    questions = [
        Question(f"{example.image}:{number}", example.question, (example.answer or "",), boxes=(example.box,))
        for number, (_, example) in enumerate(listed)
    ]
    origin = _origin("signs, built in", SIGNS / EXAMPLES, "default", "all", len(questions))
    return ListedQuestions(origin, questions, [path for path, _ in listed])


def own_list(path: Path, benchmark: Benchmark) -> Questions:
    """A list of one's own: lines of JSON, or parquet. Raises DatasetError naming the row."""
    if path.suffix == ".parquet":
        found: Questions = open_parquet(benchmark, path)
        for number in range(found.origin.rows):
            _named(path, number, found.question, number)
        return found
    rows = list(_json_rows(path))
    questions = [
        _named(path, number, benchmark.read, {"id": str(number), **row}) for number, row in enumerate(rows)
    ]
    pictures = [_named(path, number, _beside(path), row) for number, row in enumerate(rows)]
    if not questions:
        raise DatasetError(f"{path} is empty; wanted {WANTED}")
    return ListedQuestions(_origin(path.name, path, "default", "all", len(questions)), questions, pictures)


def _named(path: Path, number: int, read: Callable[[T], R], given: T) -> R:
    """What reading gives; a DatasetError says which row it is of."""
    try:
        return read(given)
    except DatasetError as error:
        raise DatasetError(f"{path}, row {number + 1}: {error}") from error


def vstar_files(directory: Path, benchmark: Benchmark) -> ListedQuestions:
    """V* as its authors lay it out: `test_questions.jsonl`, pictures, and boxes in a JSON beside each.

    Raises DatasetError.
    """
    listed = directory / "test_questions.jsonl"
    questions, pictures = [], []
    for number, row in enumerate(_json_rows(listed)):
        image = directory / text(row, "image")
        try:
            boxes = json.loads(read_text(image.with_suffix(".json")))["bbox"]
            questions.append(benchmark.read({"question_id": number, **row, "bbox": boxes}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                f"{image.with_suffix('.json')} holds no boxes ({error}); wanted craigwu/vstar_bench as it is"
            ) from error
        pictures.append(image)
    name = benchmark.place.ids[0]
    return ListedQuestions(_origin(name, listed, "default", "test", len(questions)), questions, pictures)


def _origin(name: str, path: Path, config: str, split: str, rows: int) -> Origin:
    return Origin(name, f"sha256:{hash_file(path).sha256[:16]}", config, split, rows)


def _beside(path: Path) -> Callable[[Row], PictureFile]:
    return lambda row: picture_beside(path, row, "image")


def _json_rows(path: Path) -> Iterator[Row]:
    try:
        lines = text_lines(read_text(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read ({error}); wanted {WANTED}") from error
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DatasetError(f"{path}, line {number + 1} is no JSON ({error}); wanted {WANTED}") from error
        if not isinstance(row, dict):
            raise DatasetError(f"{path}, line {number + 1} is no object; wanted {WANTED}")
        yield row
