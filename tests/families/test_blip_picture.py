"""What InstructBLIP's family makes of a picture: transformers' pixels to the bit, and where its cells lie."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from tests.families.test_smolvlm_picture import noise
from tests.samples import MANIFEST
from vicrop_engine.engine_dir.records import (
    FamilyRecord,
    InstructionReader,
    Preprocessing,
    VisionGeometry,
)
from vicrop_engine.errors import ConfigError
from vicrop_engine.families.instructblip.picture import InstructBlip
from vicrop_engine.images.seen import Way
from vicrop_engine.images.tiling import plan_tiles

SIDE, CELLS, QUERIES = 56, 4, 8
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZES = [
    *((150, 110), (110, 150), (64, 64), (333, 95), (500, 30), (640, 481), (1, 9), (9, 1), (30, 500)),
    *((4000, 300), (56, 56), (57, 55), (600, 600)),
]


def family(side: int = SIDE) -> InstructBlip:
    """That of an engine with pictures of `side` pixels."""
    cells = side // 14
    manifest = dataclasses.replace(
        MANIFEST,
        vision=VisionGeometry(side, 14, cells, cells, QUERIES, 0),
        family=FamilyRecord("instructblip", {}),
        instructed=InstructionReader(50, 5, 1),
    )
    made = Preprocessing("exact", side, side, 3, False, side, side, 1 / 255, MEAN, STD)
    return InstructBlip(manifest, made)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [SIDE, 224])
def test_pixels_are_those_of_transformers_to_the_bit(size: tuple[int, int], side: int) -> None:
    processor: Any = BlipImageProcessorPil(size={"height": side, "width": side})
    image = noise(size)
    wanted = processor(images=[image], return_tensors="np")["pixel_values"]
    for published in (False, True):
        got = family(side).see(image, Way(published=published)).inputs.pixels
        assert np.array_equal(got, wanted)


@pytest.mark.parametrize("size", [(150, 110), (90, 200), (64, 64), (333, 95), (57, 120), (400, 390)])
def test_a_mark_changes_the_cell_that_is_said_to_lie_there(size: tuple[int, int]) -> None:
    """The patch of the input that changes most, and the cell of the same number on the picture."""
    random, own = np.random.default_rng(size), family()
    grey = np.full((size[1], size[0], 3), 120, np.uint8)
    before = own.see(Image.fromarray(grey), Way())
    for _ in range(6):
        x, y = (int(random.integers(0, length - 5)) for length in size)
        marked = grey.copy()
        marked[y : y + 5, x : x + 5] = 255
        seen = own.see(Image.fromarray(marked), Way())
        changed = np.abs(seen.inputs.pixels - before.inputs.pixels).sum(axis=1)
        patches = changed.reshape(CELLS, 14, CELLS, 14).sum(axis=(1, 3))
        grid = seen.layout.grid
        row, col = np.divmod(int(patches.argmax()), grid.cols)
        left, top = col * grid.cell_width, row * grid.cell_height
        assert left - 3 <= x + 2.5 <= left + grid.cell_width + 3
        assert top - 3 <= y + 2.5 <= top + grid.cell_height + 3


def test_every_picture_takes_as_many_tokens_as_there_are_queries() -> None:
    least, most = family().layouts(Way())
    assert least is most
    assert (most.runs, most.order, most.closing) == ((QUERIES,), tuple(range(QUERIES)), 0)
    picture = noise((1500, 1100))
    plan = plan_tiles(picture.size)
    tile = family().see_tile(picture.crop(plan.boxes[0]), plan)
    assert (tile.layout.runs, tile.layout.grid.rows, family().auto_side) == ((QUERIES,), CELLS, 1536)


def test_instructions_are_told_apart_and_the_picture_is_not() -> None:
    seen = family().see(noise((300, 200)), Way())
    one, other = seen.asked((1, 2)).inputs, seen.asked((1, 3)).inputs
    assert seen.inputs.digest == one.digest == other.digest == seen.inputs.key
    assert len({seen.inputs.key, one.key, other.key}) == 3
    assert seen.asked(None) is seen
    assert len(family().noise(np.random.RandomState(0)).inputs.instruction or ()) == 5


def test_settings_it_does_not_know() -> None:
    made = Preprocessing("exact", SIDE, SIDE, 3, False, SIDE, SIDE, 1 / 255, MEAN, STD)
    named = dataclasses.replace(MANIFEST, family=FamilyRecord("instructblip", {"entry": 2}))
    with pytest.raises(ConfigError, match="unknown key 'entry'"):
        InstructBlip(named, made)
    with pytest.raises(ConfigError, match="'instructed'"):
        InstructBlip(dataclasses.replace(named, family=FamilyRecord("instructblip", {})), made)
