"""Bar charts for the benchmarks, drawn with Pillow: labelled rows in groups, and what they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from vicrop_engine.drawing.text import Label, font

WIDTH, MARGIN, LABELS, NUMBERS, ROW = 1600, 48, 470, 330, 40
INK, MUTED, LINE = "#15181c", "#68707b", "#e3e6ea"
COLOURS = ("#2f6db3", "#e08a00", "#c8102e", "#4d8b57", "#8a5fb0", "#9aa3ad")


@dataclass(frozen=True)
class Bar:
    """A row: what it is of, its length, what is written at its end, its colour's number, a mark on it."""

    label: str
    value: float
    text: str
    colour: int = 0
    mark: float | None = None


def draw_bars(
    path: Path, title: str, caption: str, groups: Sequence[tuple[str, Sequence[Bar]]], mark: str = ""
) -> None:
    """Write a PNG; all groups are on one scale, and `mark` says what the marks on the bars are."""
    heading = Label(title, 32, INK, WIDTH - 2 * MARGIN, 3)
    below = Label(f"{caption} {mark}".strip(), 20, MUTED, WIDTH - 2 * MARGIN, 3)
    rows = sum(len(bars) for _, bars in groups)
    height = 2 * MARGIN + heading.height + below.height + 30 + 62 * len(groups) + ROW * rows
    canvas = Image.new("RGB", (WIDTH, height), "#ffffff")
    draw = ImageDraw.Draw(canvas)
    heading.draw(draw, (MARGIN, MARGIN))
    below.draw(draw, (MARGIN, MARGIN + heading.height + 6))
    top = MARGIN + heading.height + below.height + 30
    longest = max(max(bar.value, bar.mark or 0) for _, bars in groups for bar in bars)
    for name, bars in groups:
        draw.text((MARGIN, top + 14), name, font=font(25), fill=INK)
        top += 54
        for bar in bars:
            _draw_bar(draw, bar, longest, top)
            top += ROW
        top += 8
    canvas.save(path)


def _draw_bar(draw: ImageDraw.ImageDraw, bar: Bar, longest: float, top: int) -> None:
    room = WIDTH - MARGIN - LABELS - NUMBERS
    right = LABELS + max(2, round(bar.value / longest * room))
    draw.text((MARGIN + 16, top + 5), bar.label, font=font(21), fill=INK)
    draw.rectangle((LABELS, top + 4, right - 1, top + 31), fill=COLOURS[bar.colour])
    end = right
    if bar.mark is not None:
        at = LABELS + round(bar.mark / longest * room)
        draw.line((at, top + 1, at, top + 34), fill=INK, width=3)
        end = max(right, at)
    draw.text((end + 12, top + 5), bar.text, font=font(20), fill=INK)
