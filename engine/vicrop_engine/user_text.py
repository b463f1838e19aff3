"""Text files that users bring, as they come from the world: UTF-8 with or without a byte order mark."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str:
    """The text of a file; a byte order mark is no part of it. Raises OSError and UnicodeDecodeError."""
    return path.read_text(encoding="utf-8-sig")


def text_lines(text: str) -> list[str]:
    """Lines as JSON Lines means them: ended by a line feed alone, whatever else Unicode calls an end."""
    return [line.removesuffix("\r") for line in text.split("\n")]
