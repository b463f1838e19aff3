"""What LLaVA-NeXT's family makes of a picture: transformers' pixels to the bit, and where its cells lie."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LlavaNextConfig
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel

from tests.families.test_smolvlm_picture import noise
from tests.samples import MANIFEST, PROMPTS
from vicrop_engine.engine_dir.records import FamilyRecord, Preprocessing, VisionGeometry
from vicrop_engine.errors import ConfigError
from vicrop_engine.families.llava_next.picture import LlavaNext
from vicrop_engine.images.seen import Way
from vicrop_engine.images.tiling import plan_tiles

SIDE, CELLS = 56, 4
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZES = [
    *((150, 110), (110, 150), (64, 64), (333, 95), (57, 120), (400, 390), (500, 30), (640, 481)),
    *((1, 9), (9, 1), (30, 500), (4000, 300), (112, 56), (113, 57), (600, 600), (168, 57)),
]
MADE = Preprocessing("exact", SIDE, SIDE, 3, False, SIDE, SIDE, 1 / 255, MEAN, STD)


def pinpoints(side: int) -> list[list[int]]:
    """The published ones for tiles of 336."""
    return [[side, 2 * side], [2 * side, side], [2 * side, 2 * side], [3 * side, side], [side, 3 * side]]


def family(side: int = SIDE) -> LlavaNext:
    """That of an engine with tiles of `side` pixels."""
    cells = side // 14
    made = dataclasses.replace(MADE, height=side, width=side, crop_height=side, crop_width=side)
    manifest = dataclasses.replace(
        MANIFEST,
        vision=VisionGeometry(side, 14, cells, cells, cells**2, 0),
        family=FamilyRecord("llava-next", {"pinpoints": pinpoints(side)}),
        prompts=dataclasses.replace(PROMPTS, image_placeholder="<image>"),
    )
    return LlavaNext(manifest, made)


def processor(side: int = SIDE) -> Any:
    """Transformers' own with the same settings."""
    kind: Any = LlavaNextImageProcessorPil
    square = {"height": side, "width": side}
    return kind(size={"shortest_edge": side}, crop_size=square, image_grid_pinpoints=pinpoints(side))


def packing(side: int = SIDE) -> Any:
    """What transformers packs with; it has no weights."""
    vision = {"image_size": side, "patch_size": 14, "model_type": "clip_vision_model"}
    model: Any = LlavaNextModel.__new__(LlavaNextModel)
    torch.nn.Module.__init__(model)
    model.config = LlavaNextConfig(vision_config=vision, image_grid_pinpoints=pinpoints(side))
    return model


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [SIDE, 336])
def test_pixels_are_those_of_transformers_to_the_bit(size: tuple[int, int], side: int) -> None:
    image = noise(size)
    wanted = processor(side)(images=[image], return_tensors="np")["pixel_values"][0]
    got = family(side).see(image, Way()).inputs
    assert got.pixels.shape == wanted.shape
    assert np.array_equal(got.pixels, wanted)
    one = family(side).see(image, Way(one=True)).inputs
    assert np.array_equal(one.pixels, wanted[:1])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [SIDE, 336])
def test_embeddings_are_picked_as_transformers_packs_them(size: tuple[int, int], side: int) -> None:
    """Its own packing of each row's number, -1 for the newline."""
    seen = family(side).see(noise(size), Way())
    inputs, base = len(seen.inputs.pixels), (side // 14) ** 2
    numbers = torch.arange(inputs * base, dtype=torch.float64).reshape(inputs, base, 1)
    newline = torch.tensor([float(inputs * base)], dtype=torch.float64)
    [wanted], _ = packing(side).pack_image_features([numbers], [size[::-1]], "default", newline)
    assert seen.inputs.picked is not None
    assert np.array_equal(seen.inputs.picked, wanted[:, 0].numpy())
    assert seen.layout.runs == (len(wanted),)
    one = family(side).see(noise(size), Way(one=True))
    [wanted], _ = packing(side).pack_image_features(
        [numbers[:1]], [size[::-1]], "default", newline[:1] * 0 + base
    )
    assert one.inputs.picked is not None
    assert np.array_equal(one.inputs.picked, wanted[:, 0].numpy())


@pytest.mark.parametrize("side", [SIDE, 336])
@pytest.mark.parametrize("size", [(300, 200), (200, 300), (256, 256), (640, 481), (400, 90), (90, 300)])
def test_a_mark_changes_the_cell_that_is_said_to_lie_there(size: tuple[int, int], side: int) -> None:
    """Of whole cells: what lies on a cut one at the edge the model's own packing leaves to the base."""
    own, random, tried = family(side), np.random.default_rng(5), 0
    grey = np.full((size[1], size[0], 3), 128, np.uint8)
    before = own.see(Image.fromarray(grey), Way())
    for _ in range(10):
        x, y = (int(random.integers(0, length - 5)) for length in size)
        x0, y0, x1, y1 = before.layout.grid.box
        if not (x0 <= x + 2.5 <= x1 and y0 <= y + 2.5 <= y1):
            continue
        tried += 1
        marked = grey.copy()
        marked[y : y + 5, x : x + 5] = 255
        seen = own.see(Image.fromarray(marked), Way())
        changed = np.abs(seen.inputs.pixels - before.inputs.pixels).sum(axis=1)
        cells = side // 14
        rows = changed.reshape(-1, cells, 14, cells, 14).sum(axis=(2, 4)).reshape(-1)
        tokens = np.append(rows, 0)[seen.inputs.picked]
        grid = seen.layout.grid
        row, col = np.divmod(int(tokens[seen.layout.cells].argmax()), grid.cols)
        left, top = grid.left + col * grid.cell_width, grid.top + row * grid.cell_height
        assert left - 3 <= x + 2.5 <= left + grid.cell_width + 3
        assert top - 3 <= y + 2.5 <= top + grid.cell_height + 3
        assert grid.first_row <= row < grid.last_row
        assert grid.first_col <= col < grid.last_col
    assert tried > 5


def test_cells_are_neither_the_base_nor_newlines() -> None:
    layout = family().see(noise((300, 200)), Way()).layout
    assert (layout.grid.rows, layout.grid.cols) == (6, 8)
    assert layout.tokens == CELLS**2 + 6 * 9
    wanted = [CELLS**2 + row * 9 + col for row in range(6) for col in range(8)]
    assert list(layout.order) == wanted


def test_a_picture_that_leaves_no_cell_shows_its_base() -> None:
    seen = family().see(noise((4000, 300)), Way())
    assert seen.layout.tokens == CELLS**2
    assert seen.layout.order == tuple(range(CELLS**2))
    tall = family().see(noise((30, 500)), Way()).layout
    assert tall.tokens == CELLS**2 + 3 * CELLS, "a newline for each empty line"
    assert tall.order == tuple(range(CELLS**2))


def test_pictures_of_equal_pixels_but_another_layout_are_told_apart() -> None:
    inputs = family().see(noise((300, 200)), Way()).inputs
    assert inputs.picked is not None
    other = dataclasses.replace(inputs, picked=inputs.picked[::-1].copy())
    plain = dataclasses.replace(inputs, picked=None)
    assert len({inputs.digest, other.digest, plain.digest}) == 3


@pytest.mark.parametrize("side", [SIDE, 336])
def test_layouts_bound_every_picture(side: int) -> None:
    own = family(side)
    least, most = own.layouts(Way())
    for size in SIZES:
        assert least.tokens <= own.see(noise(size), Way()).layout.tokens <= most.tokens
    assert own.see(noise((600, 600)), Way()).layout.tokens == most.tokens
    assert most.tokens == {SIDE: 88, 336: 2928}[side]
    one, other = own.layouts(Way(one=True))
    assert one is other
    assert one.tokens == (side // 14) ** 2 + 1


@pytest.mark.parametrize("size", [(1500, 1100), (1999, 700), (1025, 1900)])
def test_tiles_of_high_res_have_one_layout_and_whole_cells(size: tuple[int, int]) -> None:
    picture = noise(size)
    plan = plan_tiles(size)
    seen = [family().see_tile(picture.crop(box), plan) for box in plan.boxes]
    assert len({(each.layout.runs, each.layout.order) for each in seen}) == 1
    assert len(seen[0].inputs.pixels) == len(seen[-1].inputs.pixels) > 1
    for each, box in zip(seen, plan.boxes, strict=True):
        grid = each.layout.grid
        assert grid.box == pytest.approx((0, 0, box[2] - box[0], box[3] - box[1]))
        assert (grid.first_row, grid.last_row, grid.first_col, grid.last_col) == (0, grid.rows, 0, grid.cols)
    assert family().auto_side == 2 * 3 * SIDE


@pytest.mark.parametrize(
    ("settings", "words"),
    [({}, "'pinpoints' is missing"), ({"pinpoints": [[56]]}, "wanted 2"), ({"pins": 1}, "unknown key")],
)
def test_settings_it_does_not_know(settings: dict[str, Any], words: str) -> None:
    manifest = dataclasses.replace(MANIFEST, family=FamilyRecord("llava-next", settings))
    with pytest.raises(ConfigError, match=words):
        LlavaNext(manifest, MADE)
