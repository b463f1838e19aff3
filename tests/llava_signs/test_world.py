"""The signs world: the same picture for the same seed, signs where the scene says, crops that show it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from world import COLOUR_NAMES, COLOURS, DIGITS, SMALLEST_TEXT, Scene, make_scene, render, render_input

INPUT_SIDE = 168


def scene_of(seed: int, **keywords: object) -> Scene:
    return make_scene(np.random.default_rng(seed), INPUT_SIDE, **keywords)  # type: ignore[arg-type]


def test_the_same_seed_draws_the_same_picture() -> None:
    first, again, other = (np.asarray(render(scene_of(seed))) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or (first != other).any()


@pytest.mark.parametrize("seed", range(20))
def test_signs_lie_inside_apart_and_differ_in_colour(seed: int) -> None:
    scene = scene_of(seed)
    assert len({sign.colour for sign in scene.signs}) == len(scene.signs)
    for number, sign in enumerate(scene.signs):
        x0, y0, x1, y1 = sign.box
        assert x0 >= 0
        assert y0 >= 0
        assert x1 <= scene.width
        assert y1 <= scene.height
        assert sign.text in DIGITS
        assert sign.text_height >= SMALLEST_TEXT * 0.999
        for other in scene.signs[:number]:
            gap = (sign.side + other.side) / 2
            assert max(abs(sign.x - other.x), abs(sign.y - other.y)) > gap


def test_crowded_scenes_repeat_colours() -> None:
    scene = scene_of(1, num_signs=(18, 18), text_range=(5.5, 8.0), repeat_colours=True)
    assert len(scene.signs) > len(COLOURS)
    assert len({(sign.colour, sign.shape) for sign in scene.signs}) == len(scene.signs)


def test_a_sign_is_drawn_where_and_in_what_colour_the_scene_says() -> None:
    for seed in range(8):
        scene = scene_of(seed, text_range=(8.0, 20.0))
        picture = np.asarray(render(scene))
        for sign in scene.signs:
            inside = picture[
                round(sign.y - 0.3 * sign.side) : round(sign.y + 0.45 * sign.side),
                round(sign.x - 0.2 * sign.side) : round(sign.x + 0.2 * sign.side),
            ]
            fill = np.array(COLOURS[COLOUR_NAMES[sign.colour]])
            assert (inside == fill).all(-1).mean() > 0.2


def test_a_window_at_native_size_is_that_part_of_the_picture() -> None:
    scene = replace(scene_of(5), clutter=())
    window = (100.0, 50.0, 436.0, 386.0)
    part = np.asarray(render(scene).crop((100, 50, 436, 386)), np.int16)
    drawn = np.asarray(render(scene, window), np.int16)
    assert drawn.shape == part.shape
    assert (np.abs(drawn - part).max(-1) > 3).mean() < 0.01


def test_the_input_is_square_and_shows_the_whole_window() -> None:
    scene = scene_of(6)
    shown = render_input(scene, scene.window, INPUT_SIDE)
    native = render(scene).resize((INPUT_SIDE, INPUT_SIDE), Image.Resampling.BICUBIC)
    assert shown.size == (INPUT_SIDE, INPUT_SIDE)
    difference = np.abs(np.asarray(shown, np.float32) - np.asarray(native, np.float32))
    assert difference.mean() < 3.0


def test_text_height_at_the_input_grows_with_the_crop() -> None:
    scene = scene_of(7)
    sign = scene.signs[0]
    whole = sign.text_height_in(scene.window, INPUT_SIDE)
    crop = sign.text_height_in((0.0, 0.0, INPUT_SIDE, INPUT_SIDE), INPUT_SIDE)
    assert whole == pytest.approx(sign.text_height * INPUT_SIDE / max(scene.width, scene.height))
    assert crop == pytest.approx(sign.text_height)
    assert crop > whole
