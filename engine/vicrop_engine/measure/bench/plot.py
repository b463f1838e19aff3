"""A report as one picture: how many answers were there after how long, and how many a second there were.

Draws with Pillow and its bundled font alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from vicrop_engine.drawing.text import Label, font, printable
from vicrop_engine.measure.bench.figures import Figures, answered
from vicrop_engine.measure.bench.report import ALONE, LOAD, SINGLE, Report, latencies
from vicrop_engine.measure.bench.workload import HIGH_RES, SHORT

WIDTH, MARGIN = 1600, 48
FRAME = (130, 250, 1040, 760)  # x0, y0, x1, y1 of the plotted part
BARS = (1150, WIDTH - MARGIN)  # left and right of the bars beside it
BACKGROUND, INK, MUTED, GRID = "#ffffff", "#15181c", "#68707b", "#e3e6ea"
RED, BLUE, GREY, AMBER, GREEN = "#c8102e", "#2f6db3", "#8a8f98", "#e08a00", "#4d8b57"
BAR_COLOURS = {LOAD: RED, SINGLE: GREY, ALONE: BLUE}
STEPS = (1, 2, 5)
LEGEND_ROW = 36


def draw_report(report: Report) -> Image.Image:
    """The picture, 1600 pixels wide."""
    curves = _curves(report)
    height = FRAME[3] + 110 + LEGEND_ROW * -(-len(curves) // 2) + MARGIN
    canvas = Image.new("RGB", (WIDTH, height), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    title = Label(headline(report), 34, INK, WIDTH - 2 * MARGIN, 2)
    title.draw(draw, (MARGIN, MARGIN))
    caption = Label(report.facts.get("caption", ""), 21, MUTED, WIDTH - 2 * MARGIN, 2)
    caption.draw(draw, (MARGIN, MARGIN + title.height + 6))
    _draw_curves(draw, curves)
    _draw_bars(draw, report.figures)
    return canvas


def headline(report: Report) -> str:
    """What the report says, in one or two sentences."""
    load, ratios = report.figures[LOAD], report.ratios
    told = [f"{load.throughput:.1f} answers a second"]
    if report.rate is not None:
        told = [f"Asked {report.rate:g} times a second"]
    elif "throughput" in ratios:
        told = [f"{told[0]}, {ratios['throughput']:.2f} times as many as one at a time"]
    if load.latency is not None:
        told.append(f"half of them within {_time(load.latency.p50)}, 95 % within {_time(load.latency.p95)}")
    if "short_p95" in ratios:
        told.append(f"for 95 % of the short ones {ratios['short_p95']:.2f} times what they take alone")
    return "; ".join(told) + "."


def _curves(report: Report) -> dict[str, tuple[list[float], str]]:
    """Latencies in seconds and colour by name, those that there are."""
    load = answered(report.runs[LOAD].outcomes)
    single = report.runs.get(SINGLE)
    mixed = bool(latencies(report.runs[LOAD], HIGH_RES))
    curves = {
        f"{LOAD}: end to end": ([each.latency for each in load], RED),
        f"{LOAD}: first token": ([each.ttft for each in load if each.ttft is not None], AMBER),
        f"{SINGLE}: end to end": (
            [] if single is None else [e.latency for e in answered(single.outcomes)],
            GREY,
        ),
        f"{LOAD}: short ones": (latencies(report.runs[LOAD], SHORT) if mixed else [], GREEN),
        f"{ALONE}: end to end": (latencies(report.runs.get(ALONE), SHORT), BLUE),
    }
    return {name: (seconds, colour) for name, (seconds, colour) in curves.items() if seconds}


def _draw_curves(draw: ImageDraw.ImageDraw, curves: Mapping[str, tuple[Sequence[float], str]]) -> None:
    x0, y0, x1, y1 = FRAME
    low, high = _ends([second for seconds, _ in curves.values() for second in seconds])
    _text(draw, (x0, y0 - 22), "share of the answers that were there", 24, INK, "ls")
    for share in (0, 25, 50, 75, 95, 100):
        y = round(y1 - share / 100 * (y1 - y0))
        draw.line((x0, y, x1, y), fill=GRID, width=2)
        _text(draw, (x0 - 14, y), f"{share} %", 20, MUTED, "rm")
    for tick in _ticks(low, high):
        x = _across(tick, low, high)
        draw.line((x, y0, x, y1), fill=GRID, width=2)
        _text(draw, (x, y1 + 12), _time(tick), 20, MUTED, "ma")
    _text(draw, ((x0 + x1) // 2, y1 + 46), "after so long (logarithmic)", 22, MUTED, "ma")
    for row, (name, (seconds, colour)) in reversed(list(enumerate(curves.items()))):  # the first on top
        draw.line(_steps(sorted(seconds), low, high), fill=colour, width=4)
        x, y = x0 + (row % 2) * 460, y1 + 100 + LEGEND_ROW * (row // 2)
        draw.line((x, y, x + 40, y), fill=colour, width=6)
        _text(draw, (x + 52, y), name, 22, INK, "lm")


def _steps(seconds: Sequence[float], low: float, high: float) -> list[tuple[int, int]]:
    """The share of answers that were there, as a staircase that ends at the right edge."""
    _, y0, x1, y1 = FRAME
    points = []
    for count, each in enumerate(seconds):
        x = _across(each, low, high)
        points += [
            (x, round(y1 - share * (y1 - y0))) for share in (count / len(seconds), (count + 1) / len(seconds))
        ]
    return [*points, (x1, y0)]


def _draw_bars(draw: ImageDraw.ImageDraw, made: Mapping[str, Figures]) -> None:
    left, right = BARS
    top, most = FRAME[1], max(each.throughput for each in made.values())
    _text(draw, (left, top - 22), "answers a second", 24, INK, "ls")
    for name, each in made.items():
        _text(draw, (left, top + 12), name, 22, INK, "la")
        end = left + max(2, round(each.throughput / most * (right - left - 110)))
        draw.rectangle((left, top + 46, end, top + 96), fill=BAR_COLOURS[name])
        _text(draw, (end + 14, top + 71), f"{each.throughput:.1f}", 26, INK, "lm")
        top += 126
    reused = {name.replace("_", " "): share for name, share in made[LOAD].reused.items() if share}
    if reused:
        _text(draw, (left, top + 24), f"reused {LOAD}", 24, INK, "la")
    for row, (name, share) in enumerate(reused.items()):
        _text(draw, (left, top + 66 + 32 * row), f"{share:.0%}", 22, INK, "la")
        _text(draw, (left + 84, top + 66 + 32 * row), name, 22, MUTED, "la")


def _ends(seconds: Sequence[float]) -> tuple[float, float]:
    """The range of the axis: whole steps of 1, 2, 5 around all values."""
    ticks = [step * 10.0**power for power in range(-5, 5) for step in STEPS]
    low = max(tick for tick in ticks if tick <= max(min(seconds), 1e-5))
    return low, min((tick for tick in ticks if tick >= max(seconds) and tick > low), default=ticks[-1])


def _ticks(low: float, high: float) -> list[float]:
    ticks = [step * 10.0**power for power in range(-5, 5) for step in STEPS]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


def _across(seconds: float, low: float, high: float) -> int:
    share = np.log(max(seconds, low) / low) / np.log(high / low)
    return round(FRAME[0] + float(share) * (FRAME[2] - FRAME[0]))


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def _text(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, colour: str, anchor: str
) -> None:
    draw.text(at, printable(text), font=font(size), fill=colour, anchor=anchor)
