"""Text files from the world: byte order marks, and what Unicode calls a line's end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vicrop_engine.errors import ExamplesError, ViCropError
from vicrop_engine.examples import SIGNS, read_examples
from vicrop_engine.ray_data.questions import read_questions
from vicrop_engine.server.key_file import keys_in
from vicrop_engine.user_text import text_lines

MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_a_question_may_hold_what_unicode_calls_a_line_end(inside: str, tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    line = json.dumps({"image": "a.png", "question": f"What is{inside}here?"}, ensure_ascii=False)
    path.write_text(f"{line}\r\n{line}\n", encoding="utf-8", newline="")
    assert [each.question for each in read_questions(path)] == [f"What is{inside}here?"] * 2
    assert text_lines(f"a{inside}b\nc\r\n") == [f"a{inside}b", "c", ""]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    document = json.dumps([{"image": str(SIGNS / "signs-00.webp"), "question": "What?", "box": [0, 0, 9, 9]}])
    (tmp_path / "list.json").write_bytes(MARK + document.encode())
    assert len(read_examples(tmp_path / "list.json")) == 1
    (tmp_path / "keys").write_bytes(MARK + b"a-long-enough-key\r\n# none\r\n")
    assert keys_in(tmp_path / "keys") == ("a-long-enough-key",)
    (tmp_path / "questions.jsonl").write_bytes(MARK + b'{"image": "a.png", "question": "What?"}\n')
    assert len(read_questions(tmp_path / "questions.jsonl")) == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_what_powershell_writes_is_read(encoding: str, tmp_path: Path) -> None:
    mark = "" if encoding == "utf-16" else "\ufeff"
    line = json.dumps({"image": "a.png", "question": "Café 图?"}, ensure_ascii=False)
    (tmp_path / "q.jsonl").write_bytes(f"{mark}{line}\r\n{line}\r\n".encode(encoding))
    assert [each.question for each in read_questions(tmp_path / "q.jsonl")] == ["Café 图?"] * 2
    document = json.dumps([{"image": str(SIGNS / "signs-00.webp"), "question": "What?", "box": [0, 0, 9, 9]}])
    (tmp_path / "list.json").write_bytes(f"{mark}{document}".encode(encoding))
    assert len(read_examples(tmp_path / "list.json")) == 1
    (tmp_path / "keys").write_bytes(f"{mark}a-long-enough-key\r\n".encode(encoding))
    assert keys_in(tmp_path / "keys") == ("a-long-enough-key",)


def test_other_encodings_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_bytes('{"image": "a.png", "question": "Café?"}\n'.encode("latin-1"))
    with pytest.raises(ExamplesError, match=r"q\.jsonl cannot be read .*utf-8"):
        read_questions(tmp_path / "q.jsonl")


@pytest.mark.parametrize(
    "box", [[0.1, 0.1, 0.5, 0.5], [5, 5, 2, 2], [0, 0, 99999, 9], [-1, 0, 9, 9], [0, 0, 9]]
)
def test_boxes_of_other_conventions_are_refused_with_their_number(box: list[float], tmp_path: Path) -> None:
    good = {"image": str(SIGNS / "signs-00.webp"), "question": "What?", "box": [0, 0, 9, 9]}
    (tmp_path / "list.json").write_text(json.dumps([good, {**good, "box": box}]))
    with pytest.raises(ViCropError, match="example 1"):
        read_examples(tmp_path / "list.json")
