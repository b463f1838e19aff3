"""The file of answers, a JSON object a line: what an interrupted job is taken up from.

Knows nothing of Ray.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from vicrop_engine.errors import SettingError
from vicrop_engine.ray_data.questions import Question


def answer_line(question: Question, run: str, answer: str, error: str) -> dict[str, Any]:
    """A line of the file: row, what was given, how it was asked (`run`), and answer or error."""
    head = {"row": question.row, "given": question.given, "run": run, "error": error or None}
    return {**head, **(json.loads(answer) if answer else {"answer": None})}


def answered_rows(path: Path, questions: Sequence[Question], run: str) -> set[int]:
    """Rows that need not be asked again; lines with an error, or cut off, are taken out of the file.

    Raises SettingError where the file holds answers to something else.
    """
    if not path.exists():
        return set()
    asked = {question.row: question.given for question in questions}
    kept = [line for line in _lines(path) if line.get("error") is None]
    for line in kept:
        if line.get("run") != run or asked.get(line.get("row", -1)) != line.get("given"):
            raise SettingError(
                f"{path} holds answers to other questions, of another engine or with other options; "
                "give another -o"
            )
    beside = path.with_name(f"{path.name}.part")
    beside.write_text("".join(_text(line) for line in kept), encoding="utf-8")
    beside.replace(path)
    return {line["row"] for line in kept}


@contextlib.contextmanager
def appending(path: Path) -> Iterator[TextIO]:
    """The file, open at its end; made with its directory when missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        yield file


def append(file: TextIO, lines: Sequence[dict[str, Any]]) -> None:
    """Write the lines so that they are there even if the machine stops right after."""
    file.write("".join(map(_text, lines)))
    file.flush()
    os.fsync(file.fileno())


def _text(line: dict[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of the file; the last one may have been cut off."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            document = json.loads(line)
            found.append(document if isinstance(document, dict) else {})
    return found
