"""One picture that shows what happened: the image under its heatmap, the crop window, the crop, the answers.

Draws with Pillow and its bundled font alone; knows nothing of models, engines or where the numbers came from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from vicrop_engine.drawing.text import Label

PixelBox = tuple[int, int, int, int]
Box = tuple[float, float, float, float]

CANVAS_WIDTH = 1600
MARGIN = 40
GAP = 48
INNER = CANVAS_WIDTH - 2 * MARGIN
WIDE = 2.2  # from this aspect ratio on the image gets a row of its own
SMALLEST_SIDE = 40
CARD_WIDTH, CARD_HEIGHT, CARD_PADDING = 400, 128, 24
BACKGROUND, INK, MUTED, CARD, LINE = "#ffffff", "#15181c", "#68707b", "#f2f4f6", "#c9ced5"
ACCENT = "#d6002a"
TILE_LINE, TILE_EDGE, DASH = (255, 255, 255, 255), (0, 0, 0, 90), 14
HEAT_COLOURS = ((255, 225, 60), (255, 140, 0), (225, 20, 40))
HEAT_ALPHA = 190
HEAT_FLOOR = 50  # percentile of the heatmap below which nothing is tinted


@dataclass(frozen=True)
class Scene:
    """What the overlay shows; boxes are x0, y0, x1, y1 in pixels of `image`.

    `heatmap` is [rows, cols] of finite numbers over `heatmap_box`, the whole image when None; it may reach
    beyond the image where the model saw padding. `answer_without_crop` is None when it was not asked for.
    `tiles` are what the image was looked at in, if not as a whole. The crop is black outside `crop_parts`,
    if there are any.
    """

    image: Image.Image
    question: str
    answer: str
    answer_without_crop: str | None = None
    crop_box: PixelBox | None = None
    heatmap: npt.NDArray[np.float32] | None = None
    heatmap_box: Box | None = None
    caption: str = ""
    tiles: tuple[PixelBox, ...] = ()
    crop_parts: tuple[PixelBox, ...] = ()


@dataclass(frozen=True)
class Layout:
    """Height of the canvas and where the image, the crop and the answers go on it (x0, y0, x1, y1)."""

    height: int
    picture: PixelBox
    crop: PixelBox | None
    answers: PixelBox


def render_overlay(scene: Scene) -> Image.Image:
    """The overlay as an RGB image, 1600 pixels wide whatever the size of the scene's image."""
    question = Label(scene.question, 40, INK, INNER, 3)
    caption = Label(" ".join((scene.caption, *_legend(scene))), 22, MUTED, INNER, 2)
    top = MARGIN + question.height + caption.height + 36
    cards = _cards(scene)
    layout = plan_layout(scene.image.size, scene.crop_box, top, cards=len(cards))
    canvas = Image.new("RGB", (CANVAS_WIDTH, layout.height), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    question.draw(draw, (MARGIN, MARGIN))
    caption.draw(draw, (MARGIN, MARGIN + question.height + 6))
    canvas.paste(_heated(scene, _size(layout.picture)), layout.picture[:2])
    _draw_tiles(canvas, scene, layout.picture)
    draw.rectangle(_outset(layout.picture, 1), outline=LINE)
    if scene.crop_box is not None and layout.crop is not None:
        _draw_crop(canvas, scene, layout.picture, layout.crop)
    _draw_cards(draw, cards, layout.answers)
    return canvas


def plan_layout(image_size: tuple[int, int], crop_box: PixelBox | None, top: int, *, cards: int) -> Layout:
    """Lay out below `top`: the crop beside the image, or under a wide one; answers where room is left."""
    wide = image_size[0] > WIDE * image_size[1]
    picture = place(image_size, (MARGIN, top), (INNER, 600) if wide else (960, 900))
    left, below = (MARGIN, picture[3] + GAP) if wide else (picture[2] + GAP, top)
    crop = None
    if crop_box is not None:
        room = (520, 480) if wide else (min(600, CANVAS_WIDTH - MARGIN - left), 520)
        crop = place((crop_box[2] - crop_box[0], crop_box[3] - crop_box[1]), (left, below), room)
        beside = wide or CANVAS_WIDTH - MARGIN - crop[2] - GAP >= CARD_WIDTH
        left, below = (crop[2] + GAP, below) if beside else (left, crop[3] + 32)
    right = min(CANVAS_WIDTH - MARGIN, left + 640)
    answers = (left, below, right, below + cards * (CARD_HEIGHT + 20) - 20)
    bottom = max(box[3] for box in (picture, crop or picture, answers))
    return Layout(bottom + MARGIN, picture, crop, answers)


def place(size: tuple[int, int], at: tuple[int, int], room: tuple[int, int]) -> PixelBox:
    """The rectangle at `at` in which something of `size` is drawn as large as `room` allows.

    A strip too thin to be seen is drawn thicker than it is.
    """
    scale = min(room[0] / size[0], room[1] / size[1])
    width, height = (max(SMALLEST_SIDE, round(side * scale)) for side in size)
    return at[0], at[1], at[0] + width, at[1] + height


def heat_layer(heatmap: npt.NDArray[np.float32], size: tuple[int, int], part: Box) -> Image.Image:
    """The heatmap as an RGBA layer of `size`; `part` is the piece of the grid to show, in cells."""
    values = np.asarray(heatmap, dtype=np.float64)
    low, high = np.percentile(values, HEAT_FLOOR), values.max()
    level = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    cells = Image.fromarray((level * 255).astype(np.uint8))
    spread = cells.resize(size, Image.Resampling.BICUBIC, box=part)
    channels = [spread.point(_ramp(channel)) for channel in range(3)]
    alpha = spread.point([round(HEAT_ALPHA * (value / 255) ** 0.7) for value in range(256)])
    return Image.merge("RGBA", [*channels, alpha])


def _legend(scene: Scene) -> list[str]:
    """What the colours and lines on the picture mean."""
    meanings = {
        "Warm colours: where the model looked.": scene.heatmap is not None,
        "Red frame: the crop.": scene.crop_box is not None,
        "Dashed lines: tiles.": len(scene.tiles) > 1,
    }
    return [text for text, shown in meanings.items() if shown]


def _cards(scene: Scene) -> list[tuple[str, str, str]]:
    """Heading, text and colour of each answer card."""
    if scene.crop_box is None:
        return [("Answer", scene.answer, INK)]
    cards = [("With the crop", scene.answer, ACCENT)]
    if scene.answer_without_crop is not None:
        cards.insert(0, ("Without the crop", scene.answer_without_crop, MUTED))
    return cards


def _draw_cards(draw: ImageDraw.ImageDraw, cards: list[tuple[str, str, str]], at: PixelBox) -> None:
    for row, (heading, text, colour) in enumerate(cards):
        x0, y0 = at[0], at[1] + row * (CARD_HEIGHT + 20)
        draw.rectangle((x0, y0, at[2] - 1, y0 + CARD_HEIGHT - 1), fill=CARD)
        draw.rectangle((x0, y0, x0 + 7, y0 + CARD_HEIGHT - 1), fill=colour)
        width = at[2] - x0 - 2 * CARD_PADDING
        Label(heading, 22, MUTED, width, 1).draw(draw, (x0 + CARD_PADDING, y0 + 16))
        Label(text or "(empty answer)", 44, INK, width, 1).draw(draw, (x0 + CARD_PADDING, y0 + 52))


def _heated(scene: Scene, size: tuple[int, int]) -> Image.Image:
    picture = _scaled(scene.image, (0, 0, *scene.image.size), size)
    if scene.heatmap is None:
        return picture
    rows, cols = scene.heatmap.shape
    x0, y0, x1, y1 = scene.heatmap_box or (0, 0, *scene.image.size)
    across, down = cols / (x1 - x0), rows / (y1 - y0)
    part = (
        max(0.0, -x0 * across),
        max(0.0, -y0 * down),
        min(cols, (scene.image.width - x0) * across),
        min(rows, (scene.image.height - y0) * down),
    )
    heat = heat_layer(scene.heatmap, size, part)
    return Image.alpha_composite(picture.convert("RGBA"), heat).convert("RGB")


def _draw_tiles(canvas: Image.Image, scene: Scene, picture: PixelBox) -> None:
    """Dashed lines between tiles, white on dark so that they show on any image."""
    draw = ImageDraw.Draw(canvas, "RGBA")
    across = (picture[2] - picture[0]) / scene.image.width
    down = (picture[3] - picture[1]) / scene.image.height
    for x in sorted({box[0] for box in scene.tiles if 0 < box[0] < scene.image.width}):
        _dashed(draw, (round(picture[0] + x * across), picture[1]), (0, 1), picture[3] - picture[1])
    for y in sorted({box[1] for box in scene.tiles if 0 < box[1] < scene.image.height}):
        _dashed(draw, (picture[0], round(picture[1] + y * down)), (1, 0), picture[2] - picture[0])


def _dashed(draw: ImageDraw.ImageDraw, start: tuple[int, int], way: tuple[int, int], length: int) -> None:
    for colour, width in ((TILE_EDGE, 5), (TILE_LINE, 2)):
        for at in range(0, length, 2 * DASH):
            first = start[0] + way[0] * at, start[1] + way[1] * at
            step = min(DASH, length - at) - 1
            draw.line((first, (first[0] + way[0] * step, first[1] + way[1] * step)), colour, width)


def _shown(scene: Scene) -> Image.Image:
    """What of the image the crop is of."""
    if not scene.crop_parts:
        return scene.image
    shown = Image.new("RGB", scene.image.size)
    for part in scene.crop_parts:
        shown.paste(scene.image.crop(part), part[:2])
    return shown


def _draw_crop(canvas: Image.Image, scene: Scene, picture: PixelBox, crop: PixelBox) -> None:
    assert scene.crop_box is not None
    window = _on_canvas(scene.crop_box, scene.image.size, picture)
    draw = ImageDraw.Draw(canvas, "RGBA")
    for start, end in _guides(window, crop):
        draw.line((start, end), fill=(214, 0, 42, 110), width=3)
    canvas.paste(_scaled(_shown(scene), scene.crop_box, _size(crop)), crop[:2])
    draw.rectangle(_outset(crop, 5), outline=ACCENT, width=5)
    draw.rectangle(_outset(window, 2), outline="#ffffff", width=9)
    draw.rectangle(window, outline=ACCENT, width=5)


def _guides(window: PixelBox, crop: PixelBox) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Two lines that lead from the window to its enlargement."""
    if crop[1] > window[3]:
        return [((window[0], window[3]), (crop[0], crop[1])), ((window[2], window[3]), (crop[2], crop[1]))]
    return [((window[2], window[1]), (crop[0], crop[1])), ((window[2], window[3]), (crop[0], crop[3]))]


def _on_canvas(box: PixelBox, image_size: tuple[int, int], picture: PixelBox) -> PixelBox:
    width, height = _size(picture)
    across, down = width / image_size[0], height / image_size[1]
    x0, y0 = picture[0] + round(box[0] * across), picture[1] + round(box[1] * down)
    x1, y1 = picture[0] + round(box[2] * across), picture[1] + round(box[3] * down)
    return x0, y0, max(x0 + 12, x1) - 1, max(y0 + 12, y1) - 1


def _scaled(image: Image.Image, box: PixelBox, size: tuple[int, int]) -> Image.Image:
    """The part `box` of the image at `size`; pixels stay visible squares when enlarged a lot."""
    enlarged = size[0] / (box[2] - box[0])
    method = Image.Resampling.NEAREST if enlarged > 12 else Image.Resampling.LANCZOS
    gap = 3.0 if enlarged < 1 else None
    return image.convert("RGB").resize(size, method, box=box, reducing_gap=gap)


def _ramp(channel: int) -> list[int]:
    steps = np.linspace(0, 255, len(HEAT_COLOURS))
    colours = [colour[channel] for colour in HEAT_COLOURS]
    return [round(value) for value in np.interp(np.arange(256), steps, colours)]


def _outset(box: PixelBox, by: int) -> PixelBox:
    return box[0] - by, box[1] - by, box[2] - 1 + by, box[3] - 1 + by


def _size(box: PixelBox) -> tuple[int, int]:
    return box[2] - box[0], box[3] - box[1]
