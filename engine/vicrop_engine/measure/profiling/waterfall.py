"""A profile as one picture: what each way to answer takes, and where the time of the answer with a crop goes.

Draws with Pillow and its bundled font alone; knows profiles, not how they were measured.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from PIL import Image, ImageDraw

from vicrop_engine.drawing.text import Label, font, wrap
from vicrop_engine.measure.profiling.flows import CROPPED, NEXT, PLAIN, PUBLISHED
from vicrop_engine.measure.profiling.report import Flow, Profile
from vicrop_engine.measure.profiling.stages import ORDER, Part

WIDTH, MARGIN, LABELS = 1600, 48, 560
BARS = WIDTH - MARGIN - LABELS - 210  # room for bars; what is right of it is for numbers
LANE, ROW = 84, 62
BACKGROUND, INK, MUTED, LINE = "#ffffff", "#15181c", "#68707b", "#e3e6ea"
READING, FINDING, CROPPING, ANSWERING, OTHER = "#2f6db3", "#e08a00", "#c8102e", "#4d8b57", "#9aa3ad"
COLOURS = {
    "vision": READING,
    "prefix prefill": READING,
    "suffixes": READING,
    "heatmap and window": FINDING,
    "crop vision": CROPPING,
    "crop prefill": CROPPING,
    "decode": ANSWERING,
    "first answer": READING,
    "looking passes": FINDING,
    "answer with the crop": CROPPING,
}
KINDS = {
    READING: "reading picture and question",
    FINDING: "finding the crop",
    CROPPING: "reading the crop",
    ANSWERING: "writing answers",
    OTHER: "preparing pictures",
}
LANES = {
    PLAIN: "Plain answer",
    CROPPED: "Answer without and with the crop",
    NEXT: "Next question, same picture",
    PUBLISHED: "Published code (transformers)",
}
MEANINGS = {
    "decode image": "the file becomes pixels",
    "preprocess": "pixels are scaled to the model's input",
    "vision": "the picture becomes image tokens",
    "prefix prefill": "the language model reads the picture",
    "suffixes": "it reads the question, and a general one beside it",
    "heatmap and window": "attention rows become the crop window",
    "crop vision": "the crop becomes image tokens",
    "crop prefill": "the language model reads crop and question",
    "decode": "it writes the answers, word by word",
    "first answer": "the whole picture and question, once",
    "looking passes": "the same again, for each map",
    "answer with the crop": "picture and crop from the beginning",
}


def draw_profile(profile: Profile) -> Image.Image:
    """The picture, 1600 pixels wide."""
    stages = _stages(profile.flows[CROPPED])
    height = 2 * MARGIN + 320 + LANE * len(profile.flows) + 96 + ROW * len(stages)
    canvas = Image.new("RGB", (WIDTH, height), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    top = _legend(draw, _headline(draw, profile))
    top = _lanes(draw, profile, top)
    bottom = _rows(draw, profile.flows[CROPPED], stages, top + 44)
    return canvas.crop((0, 0, WIDTH, bottom + MARGIN))


def headline(profile: Profile) -> str:
    """What the profile says, in one sentence."""
    cropped, heatmap = profile.ratios["cropped"].measured, profile.ratios["heatmap"].measured
    stages = _stages(profile.flows[CROPPED])
    name, seconds = max(stages.items(), key=lambda stage: stage[1])
    return (
        f"With the crop an answer takes {cropped:.2f} times as long; finding the crop adds {heatmap:.1%} of "
        f"a plain answer. The largest part, {seconds / sum(stages.values()):.0%}, is {name}: "
        f"{MEANINGS.get(name, name)}."
    )


def _stages(flow: Flow) -> dict[str, float]:
    """Seconds by stage of the typical run, in the order of the table."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for part in flow.typical:
        seconds[part.stage] += part.seconds
    return {name: seconds[name] for name in (*ORDER, *seconds) if name in seconds}


def _headline(draw: ImageDraw.ImageDraw, profile: Profile) -> int:
    title = Label(headline(profile), 34, INK, WIDTH - 2 * MARGIN, 3)
    title.draw(draw, (MARGIN, MARGIN))
    caption = Label(profile.facts.get("caption", ""), 21, MUTED, WIDTH - 2 * MARGIN, 2)
    caption.draw(draw, (MARGIN, MARGIN + title.height + 6))
    return MARGIN + title.height + caption.height + 26


def _legend(draw: ImageDraw.ImageDraw, top: int) -> int:
    left = MARGIN
    for colour, kind in KINDS.items():
        draw.rectangle((left, top + 3, left + 21, top + 24), fill=colour)
        draw.text((left + 30, top), kind, font=font(22), fill=INK)
        left += 30 + round(font(22).getlength(kind)) + 36
    return top + 52


def _lanes(draw: ImageDraw.ImageDraw, profile: Profile, top: int) -> int:
    """One bar for each way to answer, on one scale."""
    typical = {name: flow.typical for name, flow in profile.flows.items()}
    longest = max(pieces[-1].end for pieces in typical.values())
    draw.text((MARGIN, top), "How long each takes", font=font(28), fill=INK)
    top += 46
    for name, pieces in typical.items():
        draw.text((MARGIN, top + 14), LANES.get(name, name), font=font(25), fill=INK)
        right = LABELS
        for part in pieces:
            right = _bar(draw, part, longest, (top + 8, top + 52), COLOURS.get(part.stage, OTHER))
        ratio = f", {profile.ratios[name].measured:.2f} x" if name in profile.ratios else ""
        draw.text((right + 12, top + 16), f"{_time(pieces[-1].end)}{ratio}", font=font(23), fill=INK)
        top += LANE
    return top


def _rows(draw: ImageDraw.ImageDraw, flow: Flow, stages: Mapping[str, float], top: int) -> int:
    """Every stage of one flow on a line of its own, where in time it is."""
    end = flow.typical[-1].end
    draw.text((MARGIN, top - 24), "Where the time of the answer with the crop goes", font=font(28), fill=INK)
    top += 30
    for name, seconds in stages.items():
        draw.line((MARGIN, top, WIDTH - MARGIN, top), fill=LINE)
        draw.text((MARGIN, top + 6), name, font=font(24), fill=INK)
        meaning = wrap(MEANINGS.get(name, ""), 19, LABELS - MARGIN - 20, 1)
        draw.text((MARGIN, top + 35), "".join(meaning), font=font(19), fill=MUTED)
        colour, right = COLOURS.get(name, OTHER), LABELS
        for part in (part for part in flow.typical if part.stage == name):
            right = _bar(draw, part, end, (top + 13, top + 47), colour)
        text = f"{_time(seconds)}   {seconds / end:.1%}"
        draw.text((right + 12, top + 17), text, font=font(22), fill=INK)
        top += ROW
    return top


def _bar(draw: ImageDraw.ImageDraw, part: Part, longest: float, span: tuple[int, int], colour: str) -> int:
    """Draw a piece of a run, at least two pixels wide; where it ends."""
    left = LABELS + round(part.start / longest * BARS)
    right = max(left + 2, LABELS + round(part.end / longest * BARS))
    draw.rectangle((left, span[0], right - 1, span[1]), fill=colour)
    if right - left > 6:
        draw.line((right - 1, span[0], right - 1, span[1]), fill=BACKGROUND)
    return right


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"
