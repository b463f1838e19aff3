"""The overlay: everything is on it and inside it, for pictures of every shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageChops

from vicrop_engine.drawing.overlay import (
    ACCENT,
    CANVAS_WIDTH,
    MARGIN,
    Scene,
    heat_layer,
    place,
    plan_layout,
    render_overlay,
)
from vicrop_engine.drawing.text import Label, font, printable

RED = tuple(bytes.fromhex(ACCENT[1:]))
SIZES = [
    (1400, 900),
    (700, 700),
    (500, 3000),
    (2600, 420),
    (9, 7),
    (2, 2),
    (6000, 4000),
    (12000, 12),
    (12, 9000),
]


def scene(size: tuple[int, int], **changes: object) -> Scene:
    box = (
        size[0] // 4,
        size[1] // 4,
        size[0] // 4 + max(1, size[0] // 5),
        size[1] // 4 + max(1, size[1] // 5),
    )
    heatmap = np.ones((12, 12), np.float32)
    heatmap[4, 4] = 9
    settings = {
        "answer_without_crop": "8",
        "crop_box": box,
        "heatmap": heatmap,
        "caption": "rel-att, layer 2",
    }
    settings |= changes
    return Scene(Image.new("RGB", size, "#808080"), "What is written there?", "K7", **settings)  # type: ignore[arg-type]


def difference(first: Image.Image, second: Image.Image) -> tuple[int, int, int, int] | None:
    return ImageChops.difference(first, second).getbbox()


@pytest.mark.parametrize("size", SIZES)
def test_everything_lies_inside_the_canvas_and_apart(size: tuple[int, int]) -> None:
    shown = scene(size)
    layout = plan_layout(size, shown.crop_box, 200, cards=2)
    assert layout.crop is not None
    boxes = [layout.picture, layout.crop, layout.answers]
    for x0, y0, x1, y1 in boxes:
        assert MARGIN <= x0 < x1 <= CANVAS_WIDTH - MARGIN
        assert 200 <= y0 < y1 <= layout.height - MARGIN
    for index, one in enumerate(boxes):
        for other in boxes[index + 1 :]:
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart, (one, other)
    assert render_overlay(shown).size == (CANVAS_WIDTH, layout_height(shown))


def layout_height(shown: Scene) -> int:
    question = Label(shown.question, 40, "", CANVAS_WIDTH - 2 * MARGIN, 3)
    text = f"{shown.caption} Warm colours: where the model looked. Red frame: the crop."
    caption = Label(text, 22, "", CANVAS_WIDTH - 2 * MARGIN, 2)
    top = MARGIN + question.height + caption.height + 36
    return plan_layout(shown.image.size, shown.crop_box, top, cards=2).height


def test_the_window_is_drawn_where_the_crop_was_taken() -> None:
    shown = scene((1000, 1000), crop_box=(600, 200, 800, 400), heatmap=None)
    drawn = np.asarray(render_overlay(shown))
    picture = plan_layout((1000, 1000), shown.crop_box, 0, cards=2).picture
    top = layout_height(shown) - plan_layout((1000, 1000), shown.crop_box, 0, cards=2).height
    part = drawn[top + picture[1] : top + picture[3], picture[0] : picture[2]]
    scale = (picture[2] - picture[0]) / 1000
    rows, cols = np.nonzero((part[:, : round(805 * scale)] == RED).all(axis=2))
    assert abs(cols.min() / scale - 600) < 4
    assert abs(rows.min() / scale - 200) < 4
    assert abs(rows.max() / scale - 400) < 4


def test_the_crop_panel_shows_the_pixels_of_the_crop() -> None:
    image = Image.new("RGB", (400, 400), "#808080")
    image.paste((0, 120, 0), (100, 100, 200, 200))
    shown = Scene(image, "?", "K7", "8", (100, 100, 200, 200))
    drawn = render_overlay(shown)
    layout = plan_layout(image.size, shown.crop_box, 0, cards=2)
    assert layout.crop is not None
    top = drawn.height - layout.height
    middle = ((layout.crop[0] + layout.crop[2]) // 2, top + (layout.crop[1] + layout.crop[3]) // 2)
    assert drawn.getpixel(middle) == (0, 120, 0)


def test_the_crop_panel_is_black_outside_the_parts() -> None:
    image = Image.new("RGB", (400, 400), (0, 120, 0))
    parts = (100, 100, 200, 130), (160, 170, 200, 200)
    shown = Scene(image, "?", "K7", "8", (100, 100, 200, 200), crop_parts=parts)
    drawn = render_overlay(shown)
    layout = plan_layout(image.size, shown.crop_box, 0, cards=2)
    assert layout.crop is not None
    left, top, right, bottom = layout.crop
    down = drawn.height - layout.height
    colours = [
        drawn.getpixel((left + int(x * (right - left)), down + top + int(y * (bottom - top))))
        for x, y in ((0.5, 0.1), (0.5, 0.5), (0.9, 0.9), (0.2, 0.9))
    ]
    assert colours == [(0, 120, 0), (0, 0, 0), (0, 120, 0), (0, 0, 0)]


@pytest.mark.parametrize(
    "changes",
    [{"answer_without_crop": "9"}, {"heatmap": None}, {"caption": "none"}, {"crop_box": (0, 0, 70, 70)}],
)
def test_every_part_of_the_result_is_visible(changes: dict[str, object]) -> None:
    assert (
        difference(render_overlay(scene((700, 700))), render_overlay(scene((700, 700), **changes)))
        is not None
    )


def test_tile_borders_are_drawn_between_tiles() -> None:
    """A dashed line down the middle and one across, nowhere else."""
    tiles = ((0, 0, 500, 500), (500, 0, 1000, 500), (0, 500, 500, 1000), (500, 500, 1000, 1000))
    bare = scene((1000, 1000), crop_box=None, heatmap=None, caption="Dashed lines: tiles.")
    tiled = scene((1000, 1000), crop_box=None, heatmap=None, caption="", tiles=tiles)
    layout = plan_layout((1000, 1000), None, layout_top(bare), cards=1)
    before, after = (np.asarray(render_overlay(one).crop(layout.picture)) for one in (bare, tiled))
    changed = (before != after).any(axis=2)
    middle = changed.shape[1] // 2
    rows, cols = np.nonzero(changed)
    assert (np.minimum(abs(rows - middle), abs(cols - middle)) <= 3).all()
    for line in (changed[middle], changed[:, middle]):
        assert 0.4 < line.mean() < 0.6
    whole = scene((1000, 1000), crop_box=None, heatmap=None, caption="", tiles=((0, 0, 1000, 1000),))
    assert difference(render_overlay(whole), render_overlay(replace(whole, tiles=()))) is None


def layout_top(shown: Scene) -> int:
    caption = Label(shown.caption, 22, "", CANVAS_WIDTH - 2 * MARGIN, 2)
    return MARGIN + Label(shown.question, 40, "", CANVAS_WIDTH - 2 * MARGIN, 3).height + caption.height + 36


def test_without_crop_there_is_one_answer_and_no_window() -> None:
    plain = scene((700, 700), crop_box=None, heatmap=None)
    drawn = np.asarray(render_overlay(plain))
    assert not (drawn == RED).all(axis=2).any()


def test_the_heat_is_where_the_heatmap_is_high() -> None:
    heatmap = np.zeros((4, 4), np.float32)
    heatmap[0, 3] = 1
    alpha = np.asarray(heat_layer(heatmap, (80, 80), (0, 0, 4, 4)))[:, :, 3]
    row, col = np.unravel_index(alpha.argmax(), alpha.shape)
    assert (row < 20, col >= 60) == (True, True)
    assert alpha[40:, :40].max() == 0


def test_a_flat_heatmap_tints_nothing() -> None:
    layer = heat_layer(np.full((4, 4), 3, np.float32), (40, 40), (0, 0, 4, 4))
    assert layer.getchannel("A").getextrema() == (0, 0)


def test_the_heatmap_is_laid_over_the_box_it_covers() -> None:
    """A wide picture padded above and below to a square shows only the middle rows of the grid."""
    heatmap = np.zeros((4, 4), np.float32)
    heatmap[0] = 9
    padded = scene((400, 200), heatmap=heatmap, heatmap_box=(0, -100, 400, 300))
    without = scene((400, 200), heatmap=np.zeros((4, 4), np.float32))
    changed = difference(render_overlay(padded), render_overlay(without))
    covering = difference(render_overlay(scene((400, 200), heatmap=heatmap)), render_overlay(without))
    assert covering is not None
    assert changed is None or changed[3] - changed[1] < covering[3] - covering[1]


def test_a_thin_strip_is_still_visible() -> None:
    x0, y0, x1, y1 = place((12000, 12), (0, 0), (1500, 600))
    assert (x1 - x0, y1 - y0) == (1500, 40)


def test_long_text_is_cut_and_every_line_fits() -> None:
    label = Label("Is there a " + "Donaudampfschifffahrtsgesellschaft " * 40, 40, "#000000", 500, 3)
    assert len(label.lines) == 3
    assert label.lines[-1].endswith("...")
    assert all(font(40).getlength(line) <= 500 for line in label.lines)


def test_a_text_that_fits_is_not_changed() -> None:
    assert Label("What is written there?", 40, "#000000", 900, 3).lines == ("What is written there?",)
    assert Label("", 40, "#000000", 900, 3).lines == ()


def test_text_outside_the_font_is_made_printable() -> None:
    assert printable("Où est\n\tle café?") == "Ou est le cafe?"
    assert printable("日本 K7") == "?? K7"


def test_the_same_scene_gives_the_same_pixels() -> None:
    assert difference(render_overlay(scene((640, 480))), render_overlay(scene((640, 480)))) is None
