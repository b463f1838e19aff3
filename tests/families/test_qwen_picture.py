"""What Qwen makes of a picture: transformers' patches to the bit, where its tokens stand and lie."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tests.samples import MANIFEST, PROMPTS
from vicrop_engine.engine_dir.records import FamilyRecord, Preprocessing
from vicrop_engine.errors import ConfigError, ImageError
from vicrop_engine.families.qwen.picture import PublishedQwen, Qwen
from vicrop_engine.images.seen import Way
from vicrop_engine.images.tiling import plan_tiles

HALF = (0.5, 0.5, 0.5)
LEAST, MOST = 4, 36  # cells of a picture
SIZES = [
    *((150, 110), (110, 150), (64, 64), (333, 95), (57, 120), (400, 390), (500, 30), (640, 481)),
    *((1, 9), (9, 1), (30, 500), (4000, 300), (42, 70), (98, 126), (28, 28), (200, 1)),
]
SETTINGS = {"patch": 14, "min_pixels": LEAST * 28**2, "max_pixels": MOST * 28**2, "window": 4, "table": 0}


def family(kind: type[Qwen] = PublishedQwen, **settings: int) -> Qwen:
    """That of an engine with these settings beside SETTINGS."""
    made = Preprocessing("exact", 28, 28, 3, False, 28, 28, 1 / 255, HALF, HALF)
    manifest = dataclasses.replace(
        MANIFEST,
        family=FamilyRecord("qwen", SETTINGS | settings),
        prompts=dataclasses.replace(PROMPTS, image_placeholder="<|image_pad|>"),
    )
    return kind(manifest, made)


def of_larger_patches() -> Qwen:
    """A tower with patches of 16 pixels and a table of positions."""
    area = 32**2
    return family(Qwen, patch=16, min_pixels=LEAST * area, max_pixels=MOST * area, window=0, table=8)


def processor(patch: int = 14, least: int = LEAST, most: int = MOST) -> Any:
    """Transformers' own with the same settings."""
    area = (2 * patch) ** 2
    size = {"shortest_edge": least * area, "longest_edge": most * area}
    return Qwen2VLImageProcessorPil(patch_size=patch, size=size, image_mean=HALF, image_std=HALF)


def noise(size: tuple[int, int]) -> Image.Image:
    """A picture of many colours."""
    values = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("patch", [14, 16])
def test_patches_are_those_of_transformers_to_the_bit(patch: int, size: tuple[int, int]) -> None:
    theirs = processor(patch)(images=[noise(size)], return_tensors="np")
    seen = (family() if patch == 14 else of_larger_patches()).see(noise(size), Way())
    _, rows, cols = theirs["image_grid_thw"][0]
    assert np.array_equal(seen.inputs.arrays["patches"], theirs["pixel_values"])
    assert (seen.layout.grid.rows, seen.layout.grid.cols) == (rows // 2, cols // 2)
    assert seen.layout.tokens == rows * cols // 4


@pytest.mark.parametrize("size", SIZES)
def test_the_published_code_resizes_twice(size: tuple[int, int]) -> None:
    """To whole cells of any number first, as qwen_vl_utils does, and then to 256 at most."""
    own = family(max_pixels=1280 * 28**2)
    first = processor(least=4, most=16384)(images=[noise(size)], return_tensors="np")
    _, rows, cols = first["image_grid_thw"][0]
    once = noise(size).resize((int(cols) * 14, int(rows) * 14), Image.Resampling.BICUBIC)
    wanted = processor(most=256)(images=[once], return_tensors="np")
    got = own.see(noise(size), Way(published=True))
    assert np.array_equal(got.inputs.arrays["patches"], wanted["pixel_values"])


def test_a_picture_is_scaled_to_the_pixels_asked_for() -> None:
    own, small = family(), noise((60, 60))
    assert own.see(small, Way()).layout.tokens == 4
    assert own.see(small, Way(least_pixels=16 * 28**2)).layout.tokens == 16
    assert own.see(noise((600, 600)), Way()).layout.tokens == MOST
    assert own.see(noise((600, 600)), Way(most_pixels=9 * 28**2)).layout.tokens == 9
    assert own.see(noise((600, 600)), Way(least_pixels=10**9, most_pixels=10**9)).layout.tokens == MOST


def test_positions_are_time_row_and_column() -> None:
    layout = family().see(noise((85, 56)), Way()).layout
    assert (layout.grid.rows, layout.grid.cols) == (2, 3)
    assert layout.offsets == ((0,) * 6, (0, 0, 0, 1, 1, 1), (0, 1, 2, 0, 1, 2))


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (256, 256), (640, 481), (400, 60), (90, 400)])
def test_a_mark_changes_the_cell_that_is_said_to_lie_there(size: tuple[int, int]) -> None:
    """The cell whose patches change most is where the layout says."""
    own, random = family(), np.random.default_rng(5)
    grey = np.full((size[1], size[0], 3), 128, np.uint8)
    before = own.see(Image.fromarray(grey), Way()).inputs.arrays["patches"]
    for _ in range(20):
        x, y = (int(random.integers(0, length - 5)) for length in size)
        marked = grey.copy()
        marked[y : y + 5, x : x + 5] = 255
        seen = own.see(Image.fromarray(marked), Way())
        changed = np.abs(seen.inputs.arrays["patches"] - before).sum(axis=1)
        tokens = changed.reshape(-1, 4).sum(axis=1)
        grid = seen.layout.grid
        row, col = np.divmod(int(tokens[seen.layout.cells].argmax()), grid.cols)
        left, top = col * grid.cell_width, row * grid.cell_height
        assert left - 5 <= x + 2 <= left + grid.cell_width + 5
        assert top - 5 <= y + 2 <= top + grid.cell_height + 5


@pytest.mark.parametrize("way", [Way(), Way(most_pixels=9 * 28**2), Way(least_pixels=20 * 28**2)])
def test_layouts_bound_every_picture(way: Way) -> None:
    least, most = family().layouts(way)
    for size in SIZES:
        assert least.tokens <= family().see(noise(size), way).layout.tokens <= most.tokens


def test_all_tiles_of_high_res_have_one_layout() -> None:
    own, picture = family(), noise((1501, 1101))
    plan = plan_tiles(picture.size)
    sizes = {(box[2] - box[0], box[3] - box[1]) for box in plan.boxes}
    assert len(sizes) > 1
    layouts = [own.see_tile(picture.crop(box), plan).layout for box in plan.boxes]
    assert len({(layout.grid.rows, layout.grid.cols) for layout in layouts}) == 1
    assert own.auto_side == 2 * 6 * 28


def test_what_takes_part_in_the_digest() -> None:
    """Pictures of other shapes may have the same patches, and are other pictures."""
    wide, tall = (Image.new("RGB", size, "red") for size in ((112, 56), (56, 112)))
    seen = [family().see(picture, Way()).inputs for picture in (wide, tall)]
    assert np.array_equal(seen[0].arrays["patches"], seen[1].arrays["patches"])
    assert seen[0].digest != seen[1].digest
    assert seen[0].digest == family().see(wide, Way()).inputs.digest


def test_a_picture_of_another_shape_than_it_sees_is_refused() -> None:
    with pytest.raises(ImageError, match=r"201 x 1 pixels.* 200 times as long as wide"):
        family().see(noise((201, 1)), Way())


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"patch": 14}, "is missing"), (SETTINGS | {"edge": 2}, "unknown key")],
)
def test_settings_it_does_not_know(settings: dict[str, int], words: str) -> None:
    manifest = dataclasses.replace(MANIFEST, family=FamilyRecord("qwen", settings))
    made = Preprocessing("exact", 28, 28, 3, False, 28, 28, 1 / 255, HALF, HALF)
    with pytest.raises(ConfigError, match=words):
        Qwen(manifest, made)
