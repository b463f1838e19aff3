"""API keys from where they are kept: a file, or the environment. Needs nothing that serving needs."""

from __future__ import annotations

import os
from pathlib import Path

from vicrop_engine.errors import SettingError
from vicrop_engine.user_text import read_text, text_lines

KEYS = "VICROP_API_KEYS"
SHORTEST = 8  # characters of a key


def read_keys(file: Path | None) -> tuple[str, ...]:
    """The API keys of a file, one a line, else those of the environment. Raises SettingError."""
    if file is None:
        return tuple(key for part in os.environ.get(KEYS, "").split(",") if (key := part.strip()))
    return keys_in(file)


def keys_in(path: Path) -> tuple[str, ...]:
    """The keys in a file, one a line; empty lines and lines from '#' on are left out.

    Raises SettingError, which never quotes a key; a file without keys too, as who names one wants some.
    """
    try:
        lines = text_lines(read_text(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise SettingError(f"the keys in {path} cannot be read ({reason}); give a file of keys") from error
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    keys = [(number, key) for number, key in numbered if key and not key.startswith("#")]
    for number, key in keys:
        if len(key) < SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
            raise SettingError(
                f"line {number} of {path} is no key; wanted {SHORTEST} or more visible ASCII characters"
            )
    if not keys:
        raise SettingError(f"{path} holds no key; write one a line, or start without keys")
    return tuple(key for _, key in keys)
