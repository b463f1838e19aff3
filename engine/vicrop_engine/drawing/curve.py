"""Accuracy against cost as a picture: lines of points, a marked one, and what they mean.

Draws with Pillow and its bundled font alone; knows nothing of models or of how the points were measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from vicrop_engine.drawing.text import Label, font, printable

SIZE = (1400, 900)
FRAME = (150, 180, 1340, 770)  # x0, y0, x1, y1 of the plotted part
BACKGROUND, INK, MUTED, GRID = "#ffffff", "#15181c", "#68707b", "#e3e6ea"
COLOURS = ("#d6002a", "#1f5fbf", "#8a8f98", "#2c9145")
TEXT, SMALL = 26, 22
Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """Points (cost, accuracy), both shares, joined in order; `marked` stands out, with `note` beside it."""

    name: str
    points: Sequence[Point]
    marked: Point | None = None
    note: str = ""


def draw_curves(title: str, caption: str, lines: Sequence[Line]) -> Image.Image:
    """The lines over cost from 0 to 1, as an RGB image with a legend."""
    canvas = Image.new("RGB", SIZE, BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    Label(title, 36, INK, SIZE[0] - 80, 1).draw(draw, (40, 30))
    Label(caption, SMALL, MUTED, SIZE[0] - 80, 2).draw(draw, (40, 82))
    low, high = _span([accuracy for line in lines for _, accuracy in line.points])
    _draw_axes(draw, low, high)
    for number, line in reversed(list(enumerate(lines))):  # the first on top
        colour = COLOURS[number % len(COLOURS)]
        draw.line([_place(point, low, high) for point in line.points], fill=colour, width=5, joint="curve")
        _legend(draw, number, line.name, colour)
    for number, line in enumerate(lines):
        if line.marked is not None:
            _mark(draw, _place(line.marked, low, high), line.note, COLOURS[number % len(COLOURS)])
    return canvas


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Whole steps of 5 % around the values, with at least two between."""
    low = int(min(values) * 20) / 20
    high = -int(-max(values) * 20 // 1) / 20
    return low, max(high, low + 0.1)


def _draw_axes(draw: ImageDraw.ImageDraw, low: float, high: float) -> None:
    x0, y0, x1, y1 = FRAME
    for step in range(round(low * 20), round(high * 20) + 1):
        y = _place((0.0, step / 20), low, high)[1]
        draw.line((x0, y, x1, y), fill=GRID, width=2)
        _text(draw, (x0 - 14, y), f"{step * 5} %", MUTED, "rm")
    for step in range(6):
        x = _place((step / 5, low), low, high)[0]
        draw.line((x, y0, x, y1), fill=GRID, width=2)
        _text(draw, (x, y1 + 14), f"{step * 20} %", MUTED, "ma")
    _text(
        draw,
        ((x0 + x1) // 2, y1 + 56),
        "cost beyond a plain answer, 100 % = every question cropped",
        INK,
        "ma",
    )
    _text(draw, (40, y0 - 22), "answered right", INK, "ls")


def _place(point: Point, low: float, high: float) -> tuple[int, int]:
    x0, y0, x1, y1 = FRAME
    return round(x0 + point[0] * (x1 - x0)), round(y1 - (point[1] - low) / (high - low) * (y1 - y0))


def _legend(draw: ImageDraw.ImageDraw, number: int, name: str, colour: str) -> None:
    x, y = FRAME[2] - 540, FRAME[3] - 170 + 42 * number
    draw.rectangle((x - 12, y - 20, FRAME[2] - 4, y + 20), fill=BACKGROUND)
    draw.line((x, y, x + 50, y), fill=colour, width=6)
    _text(draw, (x + 66, y), name, INK, "lm")


def _mark(draw: ImageDraw.ImageDraw, at: tuple[int, int], note: str, colour: str) -> None:
    draw.line((at[0], at[1], at[0], FRAME[3]), fill=colour, width=2)
    draw.ellipse((at[0] - 11, at[1] - 11, at[0] + 11, at[1] + 11), fill=colour, outline=BACKGROUND, width=3)
    _text(draw, (at[0] - 16, at[1] - 26), note, colour, "rs")


def _text(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, colour: str, anchor: str) -> None:
    draw.text(at, printable(text), font=font(TEXT if colour == INK else SMALL), fill=colour, anchor=anchor)
