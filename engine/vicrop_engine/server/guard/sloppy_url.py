"""Pictures' URLs as programs write them that nobody held to RFC 2397: made one that is as it should be."""

from __future__ import annotations

import re
from urllib.parse import unquote

_HEAD = re.compile(r"\s*data:[^,]{0,200}?;\s*base64\s*,", re.IGNORECASE)
_BARE = re.compile(r"\s*[A-Za-z0-9+/_-]{64}")
_SAFE = str.maketrans("-_", "+/")


def tidied(url: str) -> str | None:
    """A `data:` URL of plain base64 for one with the alphabet of URLs, escapes, or without its padding.

    Base64 without any head becomes one, too. None for what is neither.
    """
    found = _HEAD.match(url)
    if found is None and not _BARE.match(url):
        return None
    text = url[found.end() if found else 0 :]
    if "%" in text:
        text = unquote(text)
    text = "".join(text.split()).translate(_SAFE).rstrip("=")
    return f"data:;base64,{text}{'=' * (-len(text) % 4)}"
