"""Questions on the way into the batch job: how a file is read, and cut up with pictures kept whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from vicrop_engine.errors import ExamplesError
from vicrop_engine.ray_data.questions import Question, read_questions, shard_size, shards


def about(*images: str) -> list[Question]:
    return [Question(row, Path(image), "What?", {}) for row, image in enumerate(images)]


@pytest.mark.parametrize("actors", [1, 2, 7])
@pytest.mark.parametrize("count", [1, 9, 200])
def test_a_picture_is_in_one_piece_and_no_question_is_lost(count: int, actors: int) -> None:
    questions = about(*(f"{row * row % 11}.png" for row in range(count)))
    pieces = shards(questions, actors)
    assert sorted(question.row for piece in pieces for question in piece) == list(range(count))
    places = [{question.image for question in piece} for piece in pieces]
    assert sum(map(len, places)) == len(set().union(*places))
    assert all(len(piece) >= shard_size(count, actors) for piece in pieces[:-1])


def test_every_engine_gets_several_pieces() -> None:
    assert len(shards(about(*(f"{row}.png" for row in range(64))), 4)) == 16


def test_questions_about_a_picture_are_neighbours_in_their_order() -> None:
    (piece,) = shards(about("b", "a", "b", "a", "a"), actors=3)[:1]
    assert [question.row for question in piece][:1] == [1]
    assert [question.row for piece in shards(about("b", "a", "b", "a", "a"), 3) for question in piece] == [
        1,
        3,
        4,
        0,
        2,
    ]


def test_a_file_is_read_with_its_further_keys(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(
        '{"image": "a.png", "question": "What?", "id": 7}\n\n{"image": "/b.png", "question": "é?"}\n'
    )
    first, second = read_questions(path)
    assert (first.row, first.image, first.given["id"]) == (0, tmp_path / "a.png", 7)
    assert (second.row, second.image, second.question) == (2, Path("/b.png"), "é?")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ('{"image": "a.png", "question": "What?"}\nno JSON', "line 2 is no JSON"),
        ('{"image": "a.png"}', "line 1 has no image and question"),
        ('{"image": 3, "question": "What?"}', "line 1 has no image and question"),
        ('["a.png", "What?"]', "line 1 has no image and question"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(text)
    with pytest.raises(ExamplesError, match=said):
        read_questions(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExamplesError, match="cannot be read"):
        read_questions(tmp_path / "questions.jsonl")
