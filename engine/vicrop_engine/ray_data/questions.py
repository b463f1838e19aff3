"""A list of questions about pictures, one JSON object a line, and how it is cut up. Knows nothing of Ray."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from vicrop_engine.errors import ExamplesError
from vicrop_engine.user_text import read_text, text_lines

MOST = 32  # questions handed to an engine at once
SHARDS_PER_ACTOR = 4  # so that one which is done early finds more to do


@dataclass(frozen=True)
class Question:
    """Line `row`, from 0: a question about the picture at `image`; `given` is the line as it stands there.

    `image` may be the picture's content, and `way` the number of the settings, of several, that answer it.
    """

    row: int
    image: Path | bytes
    question: str
    given: dict[str, Any]
    way: int = 0


def read_questions(path: Path) -> list[Question]:
    """The questions of a file; a relative image is one beside it, and further keys are kept.

    Raises ExamplesError naming the line that cannot be used. Whether the pictures are there is seen later.
    """
    try:
        lines = text_lines(read_text(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ExamplesError(f"{path} cannot be read ({error}); wanted {_WANTED}") from error
    questions = [_question(path, row, line) for row, line in enumerate(lines) if line.strip()]
    if not questions:
        raise ExamplesError(f"{path} is empty; wanted {_WANTED}")
    return questions


def shards(questions: Sequence[Question], actors: int) -> list[list[Question]]:
    """The questions in pieces for so many engines, all those about one picture together, one after the other.

    Every piece but the last holds at least `shard_size` of them.
    """
    size = shard_size(len(questions), actors)
    pieces: list[list[Question]] = [[]]
    for _, about_one in groupby(sorted(questions, key=_place), key=_picture):
        if len(pieces[-1]) >= size:
            pieces.append([])
        pieces[-1] += about_one
    return pieces


def shard_size(questions: int, actors: int) -> int:
    """Least questions of a piece: few enough that every engine gets several pieces."""
    return max(1, min(MOST, questions // (SHARDS_PER_ACTOR * actors)))


def _place(question: Question) -> tuple[bytes, int]:
    return _picture(question), question.row


def _picture(question: Question) -> bytes:
    """What tells pictures apart: where they are, or a digest of their content."""
    image = question.image
    return hashlib.blake2b(image).digest() if isinstance(image, bytes) else str(image).encode()


def _question(path: Path, row: int, line: str) -> Question:
    try:
        given = json.loads(line)
    except ValueError as error:
        raise ExamplesError(f"{path}, line {row + 1} is no JSON ({error}); wanted {_WANTED}") from error
    texts = [given.get(key) for key in ("image", "question")] if isinstance(given, dict) else []
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ExamplesError(f"{path}, line {row + 1} has no image and question; wanted {_WANTED}")
    return Question(row, path.parent.absolute() / given["image"], given["question"], given)


_WANTED = 'a JSON object a line, with "image" and "question"'
