"""What SmolVLM's family makes of a picture: transformers' pixels to the bit, its prompts, where cells lie."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

from tests.samples import MANIFEST, PROMPTS
from vicrop_engine.engine_dir.records import FamilyRecord, Preprocessing, VisionGeometry
from vicrop_engine.errors import ConfigError
from vicrop_engine.families.smolvlm.picture import SmolVLM
from vicrop_engine.images.seen import Way
from vicrop_engine.images.tiling import plan_tiles

SIDE, CELLS = 64, 4
HALF = (0.5, 0.5, 0.5)
SIZES = [
    *((150, 110), (110, 150), (64, 64), (333, 95), (57, 120), (400, 390), (500, 30), (640, 481)),
    *((1, 9), (9, 1), (30, 500), (4000, 300), (257, 256), (63, 65), (128, 128)),
]


def family(edge: int = 4 * SIDE) -> SmolVLM:
    """That of an engine with tiles of SIDE pixels and CELLS cells a side."""
    made = Preprocessing("exact", SIDE, SIDE, 1, False, SIDE, SIDE, 1 / 255, HALF, HALF)
    manifest = dataclasses.replace(
        MANIFEST,
        vision=VisionGeometry(SIDE, SIDE // CELLS, CELLS, CELLS, CELLS**2, 0),
        family=FamilyRecord("smolvlm", {"longest_edge": edge}),
        prompts=dataclasses.replace(PROMPTS, image_placeholder="<image>"),
    )
    return SmolVLM(manifest, made)


def processor(kind: type[Any], edge: int = 4 * SIDE) -> Any:
    """Transformers' own with the same settings."""
    return kind(size={"longest_edge": edge}, max_image_size={"longest_edge": SIDE})


def noise(size: tuple[int, int]) -> Image.Image:
    """A picture of many colours."""
    values = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize("kind", [SmolVLMImageProcessorPil, Idefics3ImageProcessorPil])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("one", [False, True])
def test_pixels_are_those_of_transformers_to_the_bit(
    kind: type[Any], size: tuple[int, int], one: bool
) -> None:
    image = noise(size)
    theirs = processor(kind)(images=[[image]], return_tensors="np", do_image_splitting=not one)
    got = family().see(image, Way(one=one))
    wanted = theirs["pixel_values"][0]
    assert got.inputs.pixels.shape == wanted.shape
    assert np.array_equal(got.inputs.pixels, wanted)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("one", [False, True])
def test_the_text_of_a_picture_is_that_of_transformers(size: tuple[int, int], one: bool) -> None:
    image = noise(size)
    given = processor(SmolVLMImageProcessorPil)(
        images=[image], return_tensors="np", do_image_splitting=not one, return_row_col_info=True
    )
    rows, cols = given["rows"][0][0], given["cols"][0][0]
    layout = family().see(image, Way(one=one)).layout
    wanted = get_image_prompt_string(
        rows, cols, CELLS**2, "<fake_token_around_image>", "<image>", "<global-img>"
    )
    runs = iter(layout.runs)
    text = "".join(part + "<image>" * next(runs, 0) for part in layout.text.split("<image>"))
    assert text == wanted
    assert layout.tokens == wanted.count("<image>")
    assert layout.grid.rows == max(rows, 1) * CELLS
    assert layout.grid.cols == max(cols, 1) * CELLS


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (256, 256), (640, 481), (400, 60), (90, 400)])
def test_a_mark_changes_the_cell_that_is_said_to_lie_there(size: tuple[int, int]) -> None:
    """Of tiles cut up into cells, the one with the largest change is where the layout says."""
    own = family()
    random = np.random.default_rng(5)
    grey = np.full((size[1], size[0], 3), 128, np.uint8)
    before = own.see(Image.fromarray(grey), Way())
    for _ in range(20):
        x, y = (int(random.integers(0, length - 5)) for length in size)
        marked = grey.copy()
        marked[y : y + 5, x : x + 5] = 255
        seen = own.see(Image.fromarray(marked), Way())
        changed = np.abs(seen.inputs.pixels - before.inputs.pixels).sum(axis=1)
        cell = SIDE // CELLS
        tokens = changed.reshape(-1, CELLS, cell, CELLS, cell).sum(axis=(2, 4)).reshape(-1)
        layout = seen.layout
        row, col = np.divmod(int(tokens[layout.cells].argmax()), layout.grid.cols)
        left, top = col * layout.grid.cell_width, row * layout.grid.cell_height
        assert left - 5 <= x + 2 <= left + layout.grid.cell_width + 5
        assert top - 5 <= y + 2 <= top + layout.grid.cell_height + 5


def test_cells_of_the_picture_are_all_its_tiles_and_never_the_whole_picture() -> None:
    layout = family().see(noise((300, 200)), Way()).layout
    cut = layout.tokens - CELLS**2
    assert sorted(layout.order) == list(range(cut))
    assert layout.runs == (CELLS**2,) * (cut // CELLS**2 + 1)
    one = family().see(noise((300, 200)), Way(one=True)).layout
    assert one.order == tuple(range(CELLS**2))


@pytest.mark.parametrize("edge", [4 * SIDE, 4 * SIDE - 1, 3 * SIDE + 5])
def test_layouts_bound_every_picture(edge: int) -> None:
    least, most = family(edge).layouts(Way())
    for size in SIZES:
        layout = family(edge).see(noise(size), Way()).layout
        assert least.tokens <= layout.tokens <= most.tokens
    square = family(edge).see(noise((300, 300)), Way()).layout
    assert (square.text, square.runs) == (most.text, most.runs)
    assert family(edge).layouts(Way(one=True)) == (least, least)


def test_a_tile_of_high_res_is_one_input() -> None:
    picture = noise((1500, 1100))
    plan = plan_tiles(picture.size)
    seen = family().see_tile(picture.crop(plan.boxes[0]), plan)
    assert len(seen.inputs.pixels) == 1
    assert seen.layout.grid.rows == CELLS
    assert family().auto_side == 2 * 4 * SIDE


@pytest.mark.parametrize(
    ("settings", "words"),
    [({}, "'longest_edge' is missing"), ({"longest_edge": 1, "edge": 2}, "unknown key")],
)
def test_settings_it_does_not_know(settings: dict[str, int], words: str) -> None:
    manifest = dataclasses.replace(MANIFEST, family=FamilyRecord("smolvlm", settings))
    made = Preprocessing("exact", SIDE, SIDE, 1, False, SIDE, SIDE, 1 / 255, HALF, HALF)
    with pytest.raises(ConfigError, match=words):
        SmolVLM(manifest, made)
