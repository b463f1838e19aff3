"""Text files from the world: byte order marks, and what Unicode calls a line's end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
