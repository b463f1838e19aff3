"""The detector: input sizes, pixels, boxes and crop against transformers, on a random checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers.models.yolos.image_processing_pil_yolos import get_size_with_aspect_ratio_yolos

from tests.external.built import SIZES, checkpoint, picture, tool, with_settings
from tests.external.plain import PlainClip, PlainYolo, square
from vicrop_engine import ViCropEngine
from vicrop_engine.external.manifest import checked_settings, read_tool
from vicrop_engine.external.settings import PixelSettings, YoloSettings
from vicrop_engine.external.yolo import Detector, confidences, in_pixels, input_size, open_detector
from vicrop_engine.images.picture import Picture
from vicrop_engine.images.preprocessing import preprocess

QUESTION = "What is written on the red sign?"
PUBLISHED = YoloSettings(PixelSettings(2, 1 / 255, (0, 0, 0), (1, 1, 1)), 800, 1333, 16, 0.25)


@pytest.fixture(scope="module")
def plain() -> PlainYolo:
    return PlainYolo(checkpoint("yolo"))


@pytest.fixture(scope="module")
def detector() -> Detector:
    return open_detector(tool("yolo"), threads=1)


def test_the_settings_are_the_checkpoints_and_the_papers() -> None:
    settings = checked_settings(tool("yolo"), "yolo", YoloSettings)
    assert (settings.shortest_edge, settings.longest_edge, settings.multiple) == (64, 128, 16)
    assert settings.confidence == 0.25
    assert settings.pixels.mean == (0.485, 0.456, 0.406)
    parity = read_tool(tool("yolo"), "yolo").parity
    assert set(parity) == {"logits", "boxes"}
    assert max(parity.values()) <= 1e-4


def test_input_sizes_are_those_of_transformers() -> None:
    random = np.random.default_rng(0)
    for width, height in [
        *random.integers(200, 3000, (500, 2)).tolist(),
        (800, 800),
        (800, 1200),
        (640, 480),
    ]:
        wanted = get_size_with_aspect_ratio_yolos((height, width), 800, 1333)
        assert input_size((width, height), PUBLISHED) == wanted[::-1]


def test_a_very_long_picture_keeps_one_patch() -> None:
    assert get_size_with_aspect_ratio_yolos((10, 20000), 800, 1333)[0] == 0
    width, height = input_size((20000, 10), PUBLISHED)
    assert height == 16
    assert 0 < width <= 1333


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_transformers(plain: PlainYolo, size: tuple[int, int]) -> None:
    settings = checked_settings(tool("yolo"), "yolo", YoloSettings)
    image = picture(size)
    pixels = preprocess(image, settings.pixels.at(*input_size(size, settings))).pixels
    wanted = plain.processor(image, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(pixels, wanted)


@pytest.mark.parametrize("size", SIZES)
def test_boxes_are_those_of_transformers(plain: PlainYolo, detector: Detector, size: tuple[int, int]) -> None:
    boxes = detector.boxes(Picture(picture(size)))
    assert boxes == plain.boxes(picture(size))
    assert 0 < len(boxes) < len(plain.boxes(picture(size), confidence=0.0))


@pytest.mark.parametrize("size", SIZES[:3])
def test_the_most_similar_detection_is_the_crop(
    engine_directory: Path, plain: PlainYolo, size: tuple[int, int]
) -> None:
    image = picture(size)
    engine = ViCropEngine.load(engine_directory, threads=1, yolo=tool("yolo"), clip=tool("clip"))
    answer = engine.ask(image, QUESTION, method="yolo", max_new_tokens=2)
    best = PlainClip(checkpoint("clip")).best(image, plain.boxes(image), QUESTION)
    assert answer.crop_box == square(best, size)
    assert (answer.method, answer.heatmap, answer.layers) == ("yolo", None, ())


def test_without_detections_the_whole_picture_is_looked_at(engine_directory: Path, tmp_path: Path) -> None:
    unsure = with_settings("yolo", tmp_path / "unsure", confidence=0.999)
    engine = ViCropEngine.load(engine_directory, threads=1, yolo=unsure, clip=tool("clip"))
    assert engine.ask(picture((300, 700)), QUESTION, method="yolo").crop_box == (0, 0, 300, 700)


def test_confidence_leaves_no_object_out() -> None:
    logits = np.log(np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]], np.float32))
    np.testing.assert_allclose(confidences(logits), [0.2, 0.6], rtol=1e-6)


def test_boxes_are_cut_to_the_picture_and_empty_ones_dropped() -> None:
    shares = np.array(
        [[0.5, 0.5, 0.2, 0.4], [0.0, 1.0, 0.5, 0.5], [1.2, 0.5, 0.3, 0.3], [0.5, 0.5, 0.0, 0.4]], np.float32
    )
    assert in_pixels(shares, (100, 50)) == [(40, 15, 60, 35), (0, 38, 25, 50)]


def test_a_ribbon_is_looked_at(detector: Detector) -> None:
    for x0, y0, x1, y1 in detector.boxes(Picture(Image.new("RGB", (5000, 3), "red"))):
        assert 0 <= x0 < x1 <= 5000
        assert 0 <= y0 < y1 <= 3
