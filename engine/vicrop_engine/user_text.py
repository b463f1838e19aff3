"""Text files that users bring, as they come from the world: UTF-8, or UTF-16 where a mark says so."""

from __future__ import annotations

import codecs
from pathlib import Path


def read_text(path: Path) -> str:
    """The text of a file; a byte order mark is no part of it, and UTF-16's, as PowerShell has it, is obeyed.

    Raises OSError and UnicodeDecodeError.
    """
    data = path.read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and len(data) > len(
        codecs.BOM_UTF16_LE
    )
    return data.decode("utf-16" if wide else "utf-8-sig").replace("\r\n", "\n")


def text_lines(text: str) -> list[str]:
    """Lines as JSON Lines means them: ended by a line feed alone, whatever else Unicode calls an end."""
    return [line.removesuffix("\r") for line in text.split("\n")]
