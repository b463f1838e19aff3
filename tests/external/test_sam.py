"""The segmenter: pixels, points, masks, boxes and crop against transformers, on a random checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate
from transformers.models.sam.image_processing_pil_sam import _batched_mask_to_box, _compute_stability_score

from tests.external.built import SIZES, checkpoint, picture, tool, with_settings
from tests.external.plain import PlainClip, PlainSam, shared, square
from vicrop_engine import ViCropEngine
from vicrop_engine.external import masks
from vicrop_engine.external import sam as segmenter
from vicrop_engine.external.manifest import checked_settings, read_tool
from vicrop_engine.external.sam import grid_points, input_size, open_segmenter
from vicrop_engine.external.settings import SamSettings
from vicrop_engine.images.picture import Picture

QUESTION = "How many people are there in the picture?"
# Few points, and thresholds between which the masks of random weights lie.
SETTINGS = {
    "points_per_side": 5,
    "predicted_iou": 0.88,
    "stability": 0.7,
    "stability_offset": 0.1,
    "overlap": 0.95,
}
THRESHOLDS = {"pred_iou_thresh": 0.88, "stability_score_thresh": 0.7, "stability_score_offset": 0.1}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built directory with the settings of these tests."""
    return with_settings("sam", tmp_path_factory.mktemp("sam") / "sam", **SETTINGS)


@pytest.fixture(scope="module")
def plain() -> PlainSam:
    return PlainSam(checkpoint("sam"))


def test_the_settings_are_the_published_generators() -> None:
    settings = checked_settings(tool("sam"), "sam", SamSettings)
    assert settings.side == 64
    assert (settings.points_per_side, settings.overlap) == (32, 0.7)
    assert (settings.predicted_iou, settings.stability, settings.stability_offset) == (0.88, 0.95, 1.0)
    parity = read_tool(tool("sam"), "sam").parity
    assert set(parity) == {"image_embeddings", "masks", "scores"}
    assert max(parity.values()) <= 1e-4


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_transformers(directory: Path, plain: PlainSam, size: tuple[int, int]) -> None:
    opened = open_segmenter(directory, threads=1)
    pixels = opened._pixels(Picture(picture(size)), input_size(size, 64))
    wanted = plain.processor(picture(size), return_tensors="np")
    np.testing.assert_array_equal(pixels, wanted["pixel_values"])
    assert input_size(size, 64) == tuple(wanted["reshaped_input_sizes"][0][::-1])


@pytest.mark.parametrize("size", SIZES)
def test_points_are_those_of_transformers(plain: PlainSam, size: tuple[int, int]) -> None:
    _, wanted, _, _ = plain.processor.generate_crop_boxes(picture(size), 64, points_per_crop=7)
    points = grid_points(7, input_size(size, 64))
    np.testing.assert_allclose(points, wanted[0, :, 0].numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_boxes_are_those_of_transformers(
    directory: Path, plain: PlainSam, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmenter, "BATCH", 7)
    monkeypatch.setattr(masks, "STRIP", 5000)
    boxes = open_segmenter(directory, threads=1).boxes(Picture(picture(size)))
    assert boxes == plain.boxes(picture(size), points=5, overlap=0.95, **THRESHOLDS)
    assert len(boxes) > 1


@pytest.mark.parametrize("size", SIZES[:3])
def test_the_most_similar_segment_is_the_crop(
    engine_directory: Path, directory: Path, plain: PlainSam, size: tuple[int, int]
) -> None:
    image = picture(size)
    engine = ViCropEngine.load(engine_directory, threads=1, sam=directory, clip=tool("clip"))
    answer = engine.ask(image, QUESTION, method="sam", max_new_tokens=2)
    boxes = plain.boxes(image, points=5, overlap=0.95, **THRESHOLDS)
    assert answer.crop_box == square(PlainClip(checkpoint("clip")).best(image, boxes, QUESTION), size)
    assert (answer.method, answer.heatmap, answer.layers) == ("sam", None, ())


def test_without_masks_the_whole_picture_is_looked_at(engine_directory: Path, tmp_path: Path) -> None:
    unsure = with_settings("sam", tmp_path / "unsure", **{**SETTINGS, "predicted_iou": 99.0})
    engine = ViCropEngine.load(engine_directory, threads=1, sam=unsure, clip=tool("clip"))
    assert engine.ask(picture((300, 700)), QUESTION, method="sam").crop_box == (0, 0, 300, 700)


@pytest.mark.parametrize(
    ("low", "padded", "inner", "size"), [(8, 32, (32, 20), (57, 41)), (16, 32, (9, 32), (5, 17))]
)
def test_a_mask_is_enlarged_and_measured_as_torch_does(
    low: int, padded: int, inner: tuple[int, int], size: tuple[int, int]
) -> None:
    enlarge = masks.enlarger(low, padded, inner, size)
    for seed in range(20):
        small = torch.randn(1, 1, low, low, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        large = interpolate(small, (padded, padded), mode="bilinear", align_corners=False)
        large = large[..., : inner[1], : inner[0]]
        large = interpolate(large, size[::-1], mode="bilinear", align_corners=False)[0, 0]
        got = enlarge.rows @ small[0, 0].numpy() @ enlarge.cols.T
        np.testing.assert_allclose(got, large.numpy(), atol=1e-5)
        stability, box = enlarge.measure(small[0, 0].numpy(), 0.5)
        assert stability == pytest.approx(float(_compute_stability_score(large, 0.0, 0.5)))
        left, top, right, bottom = _batched_mask_to_box(large > 0).tolist()
        assert box == (left, top, right + 1, bottom + 1)


def test_a_mask_of_nothing_has_no_box() -> None:
    enlarge = masks.enlarger(8, 32, (32, 20), (57, 41))
    assert enlarge.measure(np.full((8, 8), -5, np.float32), 1.0) == (0.0, None)


def test_overlapping_boxes_give_way_to_the_surer() -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        corners = random.integers(0, 20, (12, 2))
        boxes = [
            (int(x), int(y), int(x + w), int(y + h))
            for (x, y), (w, h) in zip(corners, random.integers(1, 20, (12, 2)), strict=True)
        ]
        scores = random.integers(0, 5, 12) / 5
        kept: list[tuple[int, int, int, int]] = []
        for index in sorted(range(12), key=lambda index: -scores[index]):
            if all(shared(boxes[index], other) <= 0.3 for other in kept):
                kept.append(boxes[index])
        assert masks.suppressed(boxes, scores.tolist(), 0.3) == kept
    assert masks.suppressed([], [], 0.3) == []


def test_a_ribbon_is_looked_at(directory: Path) -> None:
    for x0, y0, x1, y1 in open_segmenter(directory, threads=1).boxes(
        Picture(Image.new("RGB", (5000, 3), "red"))
    ):
        assert 0 <= x0 < x1 <= 5000
        assert 0 <= y0 < y1 <= 3
