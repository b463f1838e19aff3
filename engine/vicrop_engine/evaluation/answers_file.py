"""The file of answers, a JSON object a line: added to as they come, taken up where it ended.

An answer is known by its key. The last line may have been cut off; lines with an error are asked again. Once
all is asked the lines stand in the order of the questions, whatever happened on the way.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from vicrop_engine.errors import AnswersFileError, NoSpaceError

ANSWERS, SECONDS = "answers.jsonl", "seconds.jsonl"
FULL = 28  # ENOSPC


class AnswersFile:
    """The answers in a directory, open for more; `opened` in a `with`."""

    def __init__(self, path: Path, file: TextIO, lines: dict[str, str]) -> None:
        self._path, self._file, self._lines = path, file, lines

    @classmethod
    @contextlib.contextmanager
    def opened(cls, directory: Path, name: str = ANSWERS) -> Iterator[AnswersFile]:
        """The file in this directory, both made where missing; whole lines are read.

        Raises AnswersFileError where it is none, or another process has it open.
        """
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8", newline="\n") as file:
            if not _alone(file):
                raise AnswersFileError(
                    f"{path} is being written by another process; wait for it, or give another --out"
                )
            file.seek(0)
            lines = _read(path, file)
            _end_line(path, file)
            yield cls(path, file, lines)
            file.flush()
            os.fsync(file.fileno())

    def has_answer(self, key: str) -> bool:
        """Whether a question need not be asked again: it has an answer, and no error."""
        line = self._lines.get(key)
        return line is not None and json.loads(line)["error"] is None

    def get(self, key: str) -> dict[str, Any] | None:
        """The line of a key."""
        line = self._lines.get(key)
        return None if line is None else dict(json.loads(line))

    def append(self, line: dict[str, Any]) -> None:
        """Add a line; it is there even if this process ends right after. Raises NoSpaceError."""
        text = json.dumps(line, ensure_ascii=False, allow_nan=False)
        try:
            self._file.write(text + "\n")
            self._file.flush()
        except OSError as error:
            if error.errno == FULL:
                raise NoSpaceError(f"{self._path}: no space left; free some and run it again") from error
            raise
        self._lines[line["key"]] = text

    def settle(self, keys: Iterable[str]) -> None:
        """Put the lines of these keys last, in this order; others stay before them as they are."""
        own = dict.fromkeys(keys)
        wanted = [line for key, line in self._lines.items() if key not in own]
        wanted += [self._lines[key] for key in own if key in self._lines]
        text = "".join(f"{line}\n" for line in wanted)
        self._file.seek(0)
        if self._file.read() == text:
            return
        beside = self._path.with_name(f".{self._path.name}.part")
        beside.write_text(text, encoding="utf-8", newline="\n")
        beside.replace(self._path)


def _alone(file: TextIO) -> bool:
    """Whether nobody else has the file open; where the system has no such locks nobody is known to."""
    try:
        import fcntl
    except ModuleNotFoundError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a disk without locks
        return True
    return True


def _read(path: Path, file: TextIO) -> dict[str, str]:
    """The whole lines by key, the last of a key in the place of its first."""
    found: dict[str, str] = {}
    strange = 0
    for line in _lines(path, file):
        try:
            document = json.loads(line)
        except ValueError:  # cut off
            continue
        if isinstance(document, dict) and isinstance(document.get("key"), str) and "error" in document:
            found[document["key"]] = line
        else:
            strange += 1
    if strange:
        raise AnswersFileError(f"{path} holds {strange} lines that are no answers; give another --out")
    return found


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    try:
        for line in file:
            yield line.rstrip("\n")
    except UnicodeDecodeError:  # cut off within a letter: what follows is nothing
        with path.open("rb") as raw:
            whole = raw.read().rpartition(b"\n")[0]
        yield from whole.decode("utf-8", errors="replace").split("\n")


def _end_line(path: Path, file: TextIO) -> None:
    """After a line that was cut off the next begins anew: what is left of it goes."""
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end != len(data):
        file.truncate(end)
    file.seek(0, os.SEEK_END)
