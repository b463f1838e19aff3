"""CLIP: graphs, preprocessing, tokens and the zoom against transformers, on a seeded random checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.external.built import SIZES, checkpoint, picture, tool
from tests.external.checkpoints import write_clip
from tests.external.plain import PlainClip
from vicrop_engine import ViCropEngine
from vicrop_engine.engine_dir.parsing import parse
from vicrop_engine.external.clip import BATCH, LEAST, Similarity, open_similarity
from vicrop_engine.external.manifest import read_tool
from vicrop_engine.external.settings import ClipSettings
from vicrop_engine.images.geometry import covering_square
from vicrop_engine.images.picture import Picture
from vicrop_engine.images.preprocessing import preprocess
from vicrop_engine.vicrop.localizers.clip_zoom import cut_sides
from vicrop_export.checkpoint.processor import read_preprocessing
from vicrop_export.external.clip import WANTED

QUESTIONS = ("What is written on the red sign?", "How many people are there in the picture?")
LONG = "What is written on the red sign beside the small blue door? " * 5


@pytest.fixture(scope="module")
def plain() -> PlainClip:
    return PlainClip(checkpoint("clip"))


@pytest.fixture(scope="module")
def similarity() -> Similarity:
    return open_similarity(tool("clip"), threads=1)


def distance(got: object, wanted: object) -> float:
    first, second = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    return float(np.linalg.norm(first - second) / np.linalg.norm(second))


@pytest.mark.parametrize("text", [*QUESTIONS, LONG, "汉 ☃", "x"])
def test_a_text_is_embedded_as_transformers_does(plain: PlainClip, similarity: Similarity, text: str) -> None:
    tokens = plain.tokenizer(text, truncation=True, max_length=20, return_tensors="pt")["input_ids"]
    assert tokens.shape[1] <= 20
    wanted = plain.model.get_text_features(tokens).pooler_output[0]
    assert distance(similarity.embed_text(text), wanted / wanted.norm()) <= 1e-4


def test_scores_are_transformers_similarities(plain: PlainClip, similarity: Similarity) -> None:
    image = picture((300, 200))
    boxes = [(x, y, x + 40 + 9 * x, y + 30 + x) for x in (0, 7, 13) for y in (0, 50, 100)]
    assert len(boxes) > BATCH
    scale = float(plain.model.logit_scale.exp())
    wanted = np.array(plain.similarities(image, boxes, QUESTIONS[0])) / scale
    scores = similarity.scores(Picture(image), boxes, similarity.embed_text(QUESTIONS[0]))
    assert distance(scores, wanted) <= 1e-4
    assert similarity.most_similar(Picture(image), boxes, QUESTIONS[0]) == boxes[int(np.argmax(wanted))]


def test_a_crop_too_long_for_the_processor_is_the_least_similar(similarity: Similarity) -> None:
    ribbon = Picture(Image.new("RGB", (200_000, 3)))
    boxes = [(0, 0, 200_000, 1), (0, 0, 50, 3)]
    scores = similarity.scores(ribbon, boxes, similarity.embed_text("x"))
    assert scores[0] == LEAST
    assert scores[1] > LEAST


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_transformers(tmp_path: Path, size: tuple[int, int], exact: bool) -> None:
    from transformers import AutoImageProcessor

    made = write_clip(tmp_path / "clip", exact=exact)
    settings = parse(type(read_preprocessing(made, 32)), vars(read_preprocessing(made, 32)), "settings")
    pixels = preprocess(picture(size), settings, "processor").pixels
    wanted = AutoImageProcessor.from_pretrained(made, backend="pil")(picture(size), return_tensors="np")
    np.testing.assert_array_equal(pixels, wanted["pixel_values"])


@pytest.mark.parametrize(("size", "question"), [*zip(SIZES, 2 * QUESTIONS, strict=True)])
def test_the_zoom_ends_where_the_plain_one_does(
    engine_directory: Path, plain: PlainClip, size: tuple[int, int], question: str
) -> None:
    engine = ViCropEngine.load(engine_directory, threads=1, clip=tool("clip"))
    answer = engine.ask(picture(size), question, method="clip", max_new_tokens=2)
    assert answer.crop_box == plain.zoom(picture(size), question)
    assert (answer.method, answer.heatmap, answer.layers) == ("clip", None, ())
    assert answer.timings["heatmap"] > 0
    assert answer.answer_without_crop is not None


def test_the_zoom_looks_with_the_shorter_question(engine_directory: Path, plain: PlainClip) -> None:
    engine = ViCropEngine.load(engine_directory, threads=1, clip=tool("clip"))
    image = picture(SIZES[2])
    boxes = {text: plain.zoom(image, text) for text in QUESTIONS}
    assert len(set(boxes.values())) == 2
    answer = engine.ask(image, QUESTIONS[0], method="clip", localize=QUESTIONS[1], max_new_tokens=2)
    assert answer.crop_box == boxes[QUESTIONS[1]]


def test_one_step_cuts_a_tenth_off_each_side_in_turn() -> None:
    assert cut_sides((10, 20, 110, 79)) == (
        (10, 20, 110, 74),
        (10, 25, 110, 79),
        (10, 20, 100, 79),
        (20, 20, 110, 79),
    )


@pytest.mark.parametrize(
    ("box", "square"),
    [
        ((10, 10, 20, 40), (0, 10, 30, 40)),
        ((50, 50, 61, 60), (50, 50, 61, 61)),
        ((0, 90, 40, 95), (0, 60, 40, 100)),
        ((0, 0, 200, 10), (0, 0, 200, 100)),
        ((190, 0, 200, 100), (100, 0, 200, 100)),
    ],
)
def test_the_square_holds_the_box_inside_the_picture(
    box: tuple[int, int, int, int], square: tuple[int, int, int, int]
) -> None:
    assert covering_square(box, (200, 100)) == square


def test_the_manifest_says_what_was_built() -> None:
    manifest = read_tool(tool("clip"), "clip")
    assert (manifest.kind, manifest.source) == ("clip", "clip-checkpoint")
    assert str(manifest.revision).startswith("sha256:")
    assert set(manifest.parity) == {"image_embeds", "text_embeds"}
    assert all(0 <= figure <= 1e-4 for figure in manifest.parity.values())
    assert WANTED.example == "openai/clip-vit-base-patch16"
    assert ClipSettings.__dataclass_fields__.keys() == {"preprocessing", "context_length"}
