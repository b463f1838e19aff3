"""A report as one picture: how much is answered right, by the size of what is asked about.

Draws with Pillow and its bundled font alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from vicrop_engine.drawing.text import Label, font, printable
from vicrop_engine.evaluation.marks import SIZES, Figure
from vicrop_engine.evaluation.report import Report, Row, Section
from vicrop_engine.evaluation.settings import Variant

WIDTH, MARGIN, TOP, PLOT, FOOT = 1400, 60, 250, 420, 110
LEFT = 130
BACKGROUND, INK, MUTED, GRID = "#ffffff", "#15181c", "#68707b", "#e3e6ea"
COLOURS = ("#8a8f98", "#c8102e", "#2f6db3", "#4d8b57", "#e08a00", "#7a3f9d")
FULL, STEP = 100, 20  # percent
BAR_SHARE, LEGEND_ROW, PER_ROW = 0.8, 36, 3
WORDS = {
    "small": "small: under 0.5 % of the picture",
    "medium": "medium: 0.5 to 5 %",
    "large": "large: 5 % and more",
}


@dataclass(frozen=True)
class Panel:
    """A group of bars: its name below, and a figure for each variant that has one."""

    name: str
    figures: dict[Variant, Figure]


def draw_report(report: Report) -> Image.Image:
    """The picture, 1400 pixels wide: a plot for each benchmark by size, one for all that have no sizes."""
    plots = [(title, panels) for title, panels in _plots(report.sections) if panels]
    variants = list(
        dict.fromkeys(variant for _, panels in plots for panel in panels for variant in panel.figures)
    )
    legend = LEGEND_ROW * -(-max(1, len(variants)) // PER_ROW)
    height = TOP + legend + len(plots) * (PLOT + FOOT) + MARGIN
    canvas = Image.new("RGB", (WIDTH, height), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    Label(headline(report.sections), 34, INK, WIDTH - 2 * MARGIN, 2).draw(draw, (MARGIN, MARGIN))
    Label(report.facts["caption"], 21, MUTED, WIDTH - 2 * MARGIN, 2).draw(draw, (MARGIN, MARGIN + 96))
    for place, variant in enumerate(variants):
        x, y = LEFT + (place % PER_ROW) * 400, TOP - 40 + LEGEND_ROW * (place // PER_ROW)
        draw.rectangle((x, y - 11, x + 40, y + 11), fill=COLOURS[place % len(COLOURS)])
        _text(draw, (x + 52, y), "no crop" if variant.method == "none" else variant.name, 22, INK, "lm")
    for number, (title, panels) in enumerate(plots):
        _draw_plot(draw, TOP + legend + number * (PLOT + FOOT), title, panels, variants)
    return canvas


def headline(sections: Sequence[Section]) -> str:
    """What the picture says, in a sentence."""
    for section in sections:
        rows = _first_scorer(section)
        by = {row.variant.method: row.by_size.get("small", row.figure) for row in rows}
        if "none" in by and len(by) > 1:
            best = max((method for method in by if method != "none"), key=lambda method: by[method].value)
            small = "small things " if any("small" in row.by_size for row in rows) else ""
            return (
                f"{section.plan.benchmark.name}: {small}right without a crop {by['none'].value:.0f} %, with "
                f"{best} {by[best].value:.0f} %."
            )
    return "Answers that are right, in percent."


def _first_scorer(section: Section) -> list[Row]:
    return [row for row in section.rows if row.scorer is section.rows[0].scorer]


def _plots(sections: Sequence[Section]) -> list[tuple[str, list[Panel]]]:
    plots, rest = [], []
    for section in sections:
        rows = _first_scorer(section)
        if not rows:
            continue
        whole = Panel(section.plan.benchmark.name, {row.variant: row.figure for row in rows})
        if any(row.by_size for row in rows):
            sizes = [Panel(WORDS[name], _of_size(rows, name)) for name, _, _ in SIZES]
            panels = [panel for panel in sizes if panel.figures] + [Panel("all", whole.figures)]
            plots.append((f"{whole.name}, % right by {rows[0].scorer.name}", panels))
        else:
            rest.append(whole)
    return [*plots, ("% right", rest)]


def _of_size(rows: Sequence[Row], name: str) -> dict[Variant, Figure]:
    return {row.variant: row.by_size[name] for row in rows if name in row.by_size}


def _draw_plot(
    draw: ImageDraw.ImageDraw, top: int, title: str, panels: Sequence[Panel], variants: Sequence[Variant]
) -> None:
    bottom, right = top + PLOT - 40, WIDTH - MARGIN
    _text(draw, (LEFT, top - 18), title, 24, INK, "ls")
    for share in range(0, FULL + 1, STEP):
        y = _height(share, top, bottom)
        draw.line((LEFT, y, right, y), fill=GRID, width=2)
        _text(draw, (LEFT - 14, y), f"{share} %", 20, MUTED, "rm")
    wide = (right - LEFT) / len(panels)
    for number, panel in enumerate(panels):
        begin = LEFT + number * wide + wide * (1 - BAR_SHARE) / 2
        bar = wide * BAR_SHARE / len(variants)
        for place, variant in enumerate(variants):
            if variant in panel.figures:
                x = round(begin + place * bar), round(begin + (place + 1) * bar) - 4
                _draw_bar(draw, x, (top, bottom), panel.figures[variant], COLOURS[place % len(COLOURS)])
        count = max(figure.n for figure in panel.figures.values())
        middle = round(LEFT + (number + 0.5) * wide)
        Label(panel.name, 20, INK, round(wide) - 10, 2).draw(draw, (round(begin), bottom + 12))
        _text(draw, (middle, bottom + 72), f"{count} questions", 18, MUTED, "ma")


def _draw_bar(
    draw: ImageDraw.ImageDraw, x: tuple[int, int], ends: tuple[int, int], figure: Figure, colour: str
) -> None:
    top, bottom = ends
    y = _height(figure.value, top, bottom)
    draw.rectangle((x[0], y, x[1], bottom), fill=colour)
    middle = (x[0] + x[1]) // 2
    low, high = (_height(value, top, bottom) for value in (figure.low, figure.high))
    draw.line((middle, low, middle, high), fill=INK, width=3)
    _text(draw, (middle, high - 6), f"{figure.value:.0f}", 20, INK, "ms")


def _height(percent: float, top: int, bottom: int) -> int:
    return round(bottom - min(max(percent, 0.0), FULL) / FULL * (bottom - top - 24))


def _text(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, colour: str, anchor: str
) -> None:
    draw.text(at, printable(text), font=font(size), fill=colour, anchor=anchor)
