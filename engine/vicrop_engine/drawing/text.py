"""Text for the overlay in Pillow's bundled font: what it can print, wrapped to a width, cut to a line count.

Knows nothing of what the text says.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
LEADING = 1.3


@lru_cache(maxsize=16)
def font(size: int) -> Font:
    """Pillow's own font at `size` pixels; the same on every machine."""
    return ImageFont.load_default(size)


def printable(text: str) -> str:
    """`text` on one line in the characters the font has: accents are dropped, others become '?'."""
    folded = unicodedata.normalize("NFKD", " ".join(text.split()))
    kept = (letter for letter in folded if not unicodedata.combining(letter))
    return "".join(letter if " " <= letter <= "~" else "?" for letter in kept)


@dataclass(frozen=True)
class Label:
    """A text laid out once: at most `max_lines` lines of `width` pixels; '...' ends a cut one."""

    text: str
    size: int
    colour: str
    width: int
    max_lines: int

    @property
    def lines(self) -> tuple[str, ...]:
        """The wrapped lines; empty when there is no text."""
        return wrap(printable(self.text), self.size, self.width, self.max_lines)

    @property
    def height(self) -> int:
        """Pixels from the top of the first line to the bottom of the last."""
        return len(self.lines) * round(self.size * LEADING)

    def draw(self, draw: ImageDraw.ImageDraw, at: tuple[int, int]) -> None:
        """Draw with the top left corner at `at`."""
        for row, line in enumerate(self.lines):
            position = (at[0], at[1] + row * round(self.size * LEADING))
            draw.text(position, line, font=font(self.size), fill=self.colour)


@lru_cache(maxsize=64)
def wrap(text: str, size: int, width: int, max_lines: int) -> tuple[str, ...]:
    """Break `text` at blanks, and words wider than a line anywhere."""
    lines: list[str] = []
    rest = text
    while rest and len(lines) < max_lines:
        length = _fitting(rest, size, width)
        if length < len(rest) and " " in rest[: length + 1].strip():
            length = rest[: length + 1].rstrip().rindex(" ") if rest[length] != " " else length
        lines.append(rest[:length].rstrip())
        rest = rest[length:].lstrip()
    if rest:
        kept = lines[-1]
        while kept and font(size).getlength(kept + "...") > width:
            kept = kept[:-1]
        lines[-1] = kept.rstrip() + "..."
    return tuple(lines)


def _fitting(text: str, size: int, width: int) -> int:
    """How many leading characters fit, at least one."""
    low, high = 1, min(len(text), 400)
    while low < high:
        middle = (low + high + 1) // 2
        if font(size).getlength(text[:middle]) <= width:
            low = middle
        else:
            high = middle - 1
    return low
