"""Lists of examples: the built-in one, a user's own, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vicrop_engine.errors import ConfigError, ExamplesError
from vicrop_engine.examples import Example, read_examples, signs

GOOD = {"image": "cup.png", "question": "What colour is the cup?", "box": [1, 2, 5, 6]}


def written(directory: Path, document: Any) -> Path:
    Image.new("RGB", (8, 8)).save(directory / "cup.png")
    path = directory / "examples.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_every_built_in_sign_lies_in_its_picture() -> None:
    found = signs()
    assert len(found) == 201
    assert len({path for path, _ in found}) == 48
    for path, example in found:
        x0, y0, x1, y1 = example.box
        with Image.open(path) as picture:
            width, height = picture.size
        middle = ((x0 + x1) / 2, (y0 + y1) / 2)
        assert 0 <= middle[0] <= width, example
        assert 0 <= middle[1] <= height, example
        assert x0 < x1, example
        assert y0 < y1, example
        assert example.answer is not None
        assert example.answer.isdigit()
        assert example.question.endswith("?")


def test_a_list_of_ones_own(tmp_path: Path) -> None:
    path = written(tmp_path, [GOOD, {**GOOD, "answer": "red"}])
    (one, first), (_, second) = read_examples(path)
    assert one == tmp_path / "cup.png"
    assert first == Example("cup.png", "What colour is the cup?", (1, 2, 5, 6))
    assert second.answer == "red"


@pytest.mark.parametrize(
    ("document", "error", "words"),
    [
        ("[", ExamplesError, "cannot be read as JSON"),
        ({}, ExamplesError, "holds no list of examples; wanted a list of objects"),
        ([], ExamplesError, "holds no list"),
        ([{**GOOD, "image": "cap.png"}], ExamplesError, "example 0: there is no picture"),
        ([GOOD, {**GOOD, "bbox": 1}], ConfigError, "example 1: unknown key 'bbox'; did you mean 'box'"),
        ([{**GOOD, "box": [1, 2, 3]}], ConfigError, "got 3 values, wanted 4"),
        ([{"image": "cup.png", "box": [1, 2, 3, 4]}], ConfigError, "key 'question' is missing"),
    ],
)
def test_what_is_no_list_of_examples(
    document: Any, error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        read_examples(written(tmp_path, document))


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ExamplesError, match="cannot be read"):
        read_examples(tmp_path / "nothing.json")
