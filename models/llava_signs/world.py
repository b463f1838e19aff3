"""The signs world: pictures of coloured signs that each carry one digit, over photograph-like clutter.

A scene is a description in picture pixels, so any window of it (the whole picture, a crop around a sign)
can be rasterised at any size. This file knows nothing of questions, tokens or models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (208, 32, 38),
    "orange": (242, 133, 24),
    "yellow": (246, 220, 48),
    "green": (36, 148, 62),
    "blue": (32, 84, 204),
    "purple": (130, 52, 168),
    "white": (244, 244, 240),
    "black": (24, 24, 28),
}
SHAPES = ("circle", "square", "triangle", "diamond")
DIGITS = "0123456789"
COLOUR_NAMES = tuple(COLOURS)

DARK_INK, LIGHT_INK = (16, 16, 18), (250, 250, 250)
INK_BY_COLOUR = tuple(DARK_INK if sum(rgb) > 380 else LIGHT_INK for rgb in COLOURS.values())
TEXT_FRACTION = {"circle": 0.58, "square": 0.66, "triangle": 0.44, "diamond": 0.48}  # text height / sign side
TEXT_DROP = {"circle": 0.0, "square": 0.0, "triangle": 0.17, "diamond": 0.0}  # text centre below sign centre
MASTER_HEIGHT = 96
SLANTS = (-0.08, 0.0, 0.08)
SMALLEST_TEXT = 13.0  # picture pixels: readable in a crop, whatever the picture's size

Window = tuple[float, float, float, float]
Clutter = tuple[str, tuple[float, ...], tuple[int, int, int], float]  # kind, points, ink, width of a line


@dataclass(frozen=True)
class Sign:
    """One sign; centre and side in picture pixels, colour and shape as indices, a digit as its text."""

    colour: int
    shape: int
    text: str
    x: float
    y: float
    side: float
    slant: int

    @property
    def box(self) -> Window:
        half = self.side / 2
        return self.x - half, self.y - half, self.x + half, self.y + half

    @property
    def text_height(self) -> float:
        return self.side * TEXT_FRACTION[SHAPES[self.shape]]

    def text_height_in(self, window: Window, input_side: int) -> float:
        """Height of the digit, in pixels of a model input that shows `window` stretched to a square."""
        return self.text_height * input_side / max(window[2] - window[0], window[3] - window[1])


@dataclass(frozen=True)
class Scene:
    """A picture before it is rasterised. `noise` are colour grids, coarse to fine; `clutter` are shapes."""

    width: int
    height: int
    signs: tuple[Sign, ...]
    noise: tuple[np.ndarray, ...]
    clutter: tuple[Clutter, ...]

    @property
    def window(self) -> Window:
        return 0.0, 0.0, float(self.width), float(self.height)


def make_scene(
    rng: np.random.Generator,
    input_side: int,
    *,
    num_signs: tuple[int, int] = (2, 6),
    text_range: tuple[float, float] = (2.2, 24.0),
    repeat_colours: bool = False,
    longest_side: tuple[float, float] = (760.0, 1600.0),
) -> Scene:
    """Draw a scene.

    Args:
        rng: the source of all chance.
        input_side: side of the model's square input; text sizes are given in its pixels.
        num_signs: fewest and most signs.
        text_range: smallest and largest text height at the model's input, drawn log-uniformly.
        repeat_colours: draw each colour and shape once, instead of each colour once.
        longest_side: shortest and longest of the picture's longer side in pixels, drawn log-uniformly.
    """
    longest = math.exp(rng.uniform(math.log(longest_side[0]), math.log(longest_side[1])))
    aspect = math.exp(rng.uniform(-0.45, 0.45))
    width, height = round(longest * min(1.0, aspect)), round(longest * min(1.0, 1 / aspect))
    combinations = rng.permutation(len(COLOURS) * len(SHAPES))
    if not repeat_colours:
        combinations = rng.permutation(len(COLOURS)) * len(SHAPES) + rng.integers(
            len(SHAPES), size=len(COLOURS)
        )
    signs: list[Sign] = []
    for combination in combinations[: int(rng.integers(num_signs[0], num_signs[1] + 1))]:
        sign = _place_sign(rng, int(combination), width, height, signs, input_side, text_range)
        if sign is not None:
            signs.append(sign)
    return Scene(width, height, tuple(signs), _make_noise(rng), _make_clutter(rng, width, height))


def _place_sign(
    rng: np.random.Generator,
    combination: int,
    width: int,
    height: int,
    placed: list[Sign],
    input_side: int,
    text_range: tuple[float, float],
) -> Sign | None:
    colour, shape = divmod(combination, len(SHAPES))
    scale = max(width, height) / input_side
    smallest = max(text_range[0] * scale, SMALLEST_TEXT)
    text_height = math.exp(rng.uniform(math.log(smallest), math.log(max(text_range[1] * scale, smallest))))
    for attempt in range(24):
        side = min(text_height * 0.96**attempt, 0.28 * min(width, height)) / TEXT_FRACTION[SHAPES[shape]]
        side = max(side, smallest / TEXT_FRACTION[SHAPES[shape]])
        half = side * 0.55
        x, y = rng.uniform(half, width - half), rng.uniform(half, height - half)
        if all(max(abs(x - s.x), abs(y - s.y)) > 0.58 * (side + s.side) for s in placed):
            digit = DIGITS[rng.integers(len(DIGITS))]
            return Sign(colour, shape, digit, x, y, side, int(rng.integers(len(SLANTS))))
    return None


def _make_noise(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    base = rng.uniform(80, 170) + rng.normal(0, 14, 3)
    coarse = base + rng.normal(0, 28, (5, 5, 1)) + rng.normal(0, 12, (5, 5, 3))
    fine = 128 + rng.normal(0, 16, (40, 40, 1)) + rng.normal(0, 5, (40, 40, 3))
    return tuple(np.clip(grid, 0, 255).astype(np.uint8) for grid in (coarse, fine))


def _make_clutter(rng: np.random.Generator, width: int, height: int) -> tuple[Clutter, ...]:
    longest = max(width, height)
    clutter: list[Clutter] = []
    for _ in range(int(rng.integers(4, 14))):
        grey = rng.uniform(50, 190)
        red, green, blue = (int(v) for v in np.clip(grey + rng.normal(0, 16, 3), 0, 255))
        ink = (red, green, blue)
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        if rng.random() < 0.6:
            angle, length = rng.uniform(0, 2 * math.pi), longest * rng.uniform(0.1, 0.7)
            end = (x + length * math.cos(angle), y + length * math.sin(angle))
            clutter.append(("line", (x, y, *end), ink, longest * rng.uniform(0.002, 0.012)))
        else:
            w, h = longest * rng.uniform(0.03, 0.25), longest * rng.uniform(0.03, 0.25)
            clutter.append((("rectangle", "ellipse")[int(rng.integers(2))], (x, y, x + w, y + h), ink, 0.0))
    return tuple(clutter)


def render(scene: Scene, window: Window | None = None, size: tuple[int, int] | None = None) -> Image.Image:
    """Rasterise `window` (picture pixels; default: all of it) to `size` (width, height; default: native)."""
    window = window or scene.window
    size = size or (round(window[2] - window[0]), round(window[3] - window[1]))
    picture = _render_background(scene, window, size)
    draw = ImageDraw.Draw(picture)
    scale_x, scale_y = size[0] / (window[2] - window[0]), size[1] / (window[3] - window[1])
    for kind, points, ink, line_width in scene.clutter:
        placed = [
            (v - window[0]) * scale_x if i % 2 == 0 else (v - window[1]) * scale_y
            for i, v in enumerate(points)
        ]
        if kind == "line":
            draw.line(placed, fill=ink, width=max(1, round(line_width * scale_x)))
        else:
            getattr(draw, kind)(placed, fill=ink)
    for sign in scene.signs:
        x0, y0, x1, y1 = sign.box
        if x1 > window[0] and x0 < window[2] and y1 > window[1] and y0 < window[3]:
            _draw_sign(picture, draw, sign, window, scale_x, scale_y)
    return picture


def render_input(scene: Scene, window: Window, input_side: int) -> Image.Image:
    """What the model is shown of `window`: drawn near its native size, then stretched to the input square."""
    native = (window[2] - window[0], window[3] - window[1])
    size = tuple(max(1, round(min(side, 2 * input_side))) for side in native)
    picture = render(scene, window, (size[0], size[1]))
    return picture.resize((input_side, input_side), Image.Resampling.BICUBIC)


def _render_background(scene: Scene, window: Window, size: tuple[int, int]) -> Image.Image:
    layers = []
    for grid in scene.noise:
        cells = grid.shape[0] - 1
        box = tuple(
            0.5 + cells * v / (scene.width if i % 2 == 0 else scene.height) for i, v in enumerate(window)
        )
        layers.append(Image.fromarray(grid).resize(size, Image.Resampling.BILINEAR, box=box))
    coarse, fine = (np.asarray(layer, np.int16) for layer in layers)
    return Image.fromarray(np.clip(coarse + fine - 128, 0, 255).astype(np.uint8))


def _draw_sign(
    picture: Image.Image,
    draw: ImageDraw.ImageDraw,
    sign: Sign,
    window: Window,
    scale_x: float,
    scale_y: float,
) -> None:
    half = sign.side / 2
    x, y = (sign.x - window[0]) * scale_x, (sign.y - window[1]) * scale_y
    w, h = half * scale_x, half * scale_y
    fill, ink = COLOURS[COLOUR_NAMES[sign.colour]], INK_BY_COLOUR[sign.colour]
    shape = SHAPES[sign.shape]
    if shape == "circle":
        draw.ellipse((x - w, y - h, x + w, y + h), fill=fill)
    else:
        draw.polygon(_corners(shape, x, y, w, h), fill=fill)
    text_w = max(1, round(sign.text_height * 0.62 * scale_x))
    text_h = max(1, round(sign.text_height * scale_y))
    mask = _glyph(sign.text, sign.slant).resize((text_w, text_h), Image.Resampling.BOX)
    drop = TEXT_DROP[shape] * sign.side * scale_y
    picture.paste(ink, (round(x - text_w / 2), round(y + drop - text_h / 2)), mask)


def _corners(shape: str, x: float, y: float, w: float, h: float) -> list[tuple[float, float]]:
    if shape == "square":
        return [(x - w, y - h), (x + w, y - h), (x + w, y + h), (x - w, y + h)]
    if shape == "triangle":
        return [(x, y - h), (x + w, y + h), (x - w, y + h)]
    return [(x, y - h), (x + w, y), (x, y + h), (x - w, y)]


@cache
def _glyph(text: str, slant: int) -> Image.Image:
    """A digit as a tall mask, cut to its ink; Pillow's own font, so that every machine draws the same."""
    font = ImageFont.load_default(MASTER_HEIGHT * 1.3)
    canvas = Image.new("L", (3 * MASTER_HEIGHT, 3 * MASTER_HEIGHT))
    stroke = MASTER_HEIGHT // 24  # bold, as signs are lettered
    ImageDraw.Draw(canvas).text(
        (MASTER_HEIGHT, MASTER_HEIGHT // 2), text, fill=255, font=font, stroke_width=stroke, stroke_fill=255
    )
    shear = SLANTS[slant]
    canvas = canvas.transform(
        canvas.size,
        Image.Transform.AFFINE,
        (1, shear, -shear * canvas.height / 2, 0, 1, 0),
        Image.Resampling.BICUBIC,
    )
    box = canvas.getbbox()
    assert box is not None, f"the font has no glyph for {text!r}"
    pad = (box[3] - box[1]) // 8 if text == "1" else 0  # a lone stroke must not be stretched to full width
    return canvas.crop((box[0] - 2 * pad, box[1], box[2] + 2 * pad, box[3]))
