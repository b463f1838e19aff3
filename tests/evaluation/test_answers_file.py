"""The file of answers: what is in it counts, what was cut off does not, and its order is the questions'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vicrop_engine.errors import AnswersFileError
from vicrop_engine.evaluation.answers_file import ANSWERS, AnswersFile


def line(key: str, error: str | None = None) -> dict[str, Any]:
    return {"key": key, "answer": f"ä{key}\u2028 of", "error": error}


def write(directory: Path, *keys: str) -> bytes:
    with AnswersFile.opened(directory) as file:
        for key in keys:
            file.append(line(key))
    return (directory / ANSWERS).read_bytes()


def order(directory: Path) -> list[str]:
    return [json.loads(each)["key"] for each in (directory / ANSWERS).read_bytes().split(b"\n") if each]


def test_answers_are_there_again(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    with AnswersFile.opened(tmp_path) as file:
        assert file.has_answer("a")
        assert not file.has_answer("c")
        assert file.get("b") == line("b")
        assert file.get("c") is None


def test_cut_off_anywhere_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", "a", "b", "c")
    for end in range(len(whole)):
        directory = tmp_path / str(end)
        directory.mkdir()
        (directory / ANSWERS).write_bytes(whole[:end])
        with AnswersFile.opened(directory) as file:
            left = [key for key in "abc" if not file.has_answer(key)]
            assert len(left) == 3 - whole[:end].count(b"\n") - (whole[end : end + 1] == b"\n")
            for key in left:
                file.append(line(key))
            file.settle("abc")
        assert (directory / ANSWERS).read_bytes() == whole


def test_a_failed_one_is_asked_again_and_counts_then(tmp_path: Path) -> None:
    with AnswersFile.opened(tmp_path) as file:
        file.append(line("a", "damaged"))
        file.append(line("b"))
        assert not file.has_answer("a")
        file.append(line("a"))
        assert file.has_answer("a")
        file.settle("ab")
    assert order(tmp_path) == ["a", "b"]


def test_answers_to_other_questions_stay(tmp_path: Path) -> None:
    write(tmp_path, "x", "b", "a")
    with AnswersFile.opened(tmp_path) as file:
        file.settle(["a", "b", "c"])
    with AnswersFile.opened(tmp_path) as file:
        assert file.get("x") == line("x")
    assert order(tmp_path) == ["x", "a", "b"]


def test_a_file_of_something_else_is_refused_and_left(tmp_path: Path) -> None:
    path = tmp_path / ANSWERS
    path.write_text('{"mine": 1}\n')
    with pytest.raises(AnswersFileError, match="1 lines that are no answers"), AnswersFile.opened(tmp_path):
        pass
    assert path.read_text() == '{"mine": 1}\n'


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    with (
        AnswersFile.opened(tmp_path),
        pytest.raises(AnswersFileError, match="written by another process"),
        AnswersFile.opened(tmp_path),
    ):
        pass
