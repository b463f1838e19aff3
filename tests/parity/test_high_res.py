"""High resolution in compat mode against the published flow: stitched heatmap, box and both answers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tests.engines import built
from tests.parity.published_flow import PublishedFlow
from tests.parity.published_high_res import ask_high_res, cut
from tests.parity.test_published_flow import CHECKPOINTS, QUESTION, Pair, check_equal
from vicrop_engine import ViCropEngine

NEW_TOKENS = 3
SEEDED = list(CHECKPOINTS)[:3]  # multi-head, grouped-query and one KV head; 168, 224 and 336 px
PICTURES = {
    "one tile": ((600, 500), (1, 1)),
    "square": ((1100, 1100), (2, 2)),
    "wide, the last tile beyond the edge": ((2101, 700), (1, 3)),
    "large, tiles over 1024 pixels": ((1100, 2100), (3, 1)),
}


@pytest.fixture(scope="module", params=SEEDED)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both flows on one seeded random checkpoint, with an empty cache directory."""
    made = built(CHECKPOINTS[request.param])
    (layer,) = made.manifest.crop.layers
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VICROP_HOME", str(tmp_path_factory.mktemp("home")))
        top = made.manifest.decoder.num_layers - 1
        yield Pair(PublishedFlow(made.checkpoint), ViCropEngine.load(made.engine), layer, top)


def detailed(size: tuple[int, int]) -> Image.Image:
    """A seeded picture with large shapes, different in every tile."""
    coarse = np.random.default_rng(size).integers(0, 256, (23, 23, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("name", PICTURES)
def test_compat_equals_the_published_tiles(pair: Pair, name: str) -> None:
    size, (rows, cols) = PICTURES[name]
    image = detailed(size)
    published = ask_high_res(
        pair.published, image, QUESTION, layer=pair.default_layer, max_new_tokens=NEW_TOKENS
    )
    answer = pair.engine.ask(image, QUESTION, max_new_tokens=NEW_TOKENS, compat="mllms-know", high_res="on")
    check_equal(pair, answer, published)
    vision = pair.engine.manifest.vision
    assert answer.heatmap is not None
    assert answer.heatmap.shape == (rows * vision.rows, cols * vision.cols)
    assert (answer.high_res, len(answer.tiles)) == (True, rows * cols)
    assert answer.heatmap_box == (0, 0, *size)


def test_tiles_are_not_the_whole_picture(pair: Pair) -> None:
    """Maps and boxes differ with high-res, so that equality above means something."""
    image = detailed((1100, 1100))
    on, off = (
        pair.engine.ask(image, QUESTION, max_new_tokens=1, compat="mllms-know", high_res=high_res)
        for high_res in ("on", "off")
    )
    assert on.first_token_ids == off.first_token_ids
    assert on.crop_box != off.crop_box


@pytest.mark.parametrize("size", [(768, 1024), (500, 3000)])
def test_where_the_published_code_has_no_columns_there_is_an_answer(
    pair: Pair, size: tuple[int, int]
) -> None:
    with pytest.raises(ZeroDivisionError):
        cut(detailed(size))
    answer = pair.engine.ask(detailed(size), QUESTION, max_new_tokens=1, compat="mllms-know", high_res="on")
    assert answer.crop_box is not None
    assert answer.tiles[-1][2:] == size
    assert len(answer.tiles) == -(-size[1] // 1024)
