"""`when`: a sure answer pays for no crop, an unsure one is the one that cropping always gives."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vicrop_engine import Answer, ViCropEngine
from vicrop_engine.counters import Counters
from vicrop_engine.engine_dir.manifest import add_calibration
from vicrop_engine.engine_dir.records import Calibration
from vicrop_engine.errors import SettingError
from vicrop_engine.images.seen import Way
from vicrop_engine.vicrop.localizers.given_box import GivenBox

QUESTION = "What is written on the red sign?"
FEW = {"max_new_tokens": 3}
Ask = Callable[..., tuple[Answer, Counters]]


def spent(engine: ViCropEngine, **keywords: object) -> tuple[Answer, Counters]:
    """An answer and what was run for it."""
    before = dataclasses.asdict(engine.counters)
    image, question = keywords.pop("image"), keywords.pop("question", QUESTION)
    answer = engine.ask(image, question, **{**FEW, **keywords})  # type: ignore[arg-type]
    return answer, Counters(**{name: n - before[name] for name, n in vars(engine.counters).items()})


def bare(answer: Answer) -> Answer:
    """All but the time it took and the heatmap, which is compared by its values."""
    return dataclasses.replace(answer, timings={}, heatmap=None)


@pytest.fixture
def calibrated(engine_directory: Path, tmp_path: Path) -> Callable[..., ViCropEngine]:
    """A copy of the engine that crops from this worth on, freshly opened."""

    def load(threshold: float, method: str = "rel-att") -> ViCropEngine:
        directory = tmp_path / f"engine-{threshold}-{method}"
        if not directory.exists():
            shutil.copytree(engine_directory, directory)
            add_calibration(directory, Calibration(method, threshold, 0.95, 1, 0.0, 1.0, 1.0, 0.5, ()))
        return ViCropEngine.load(directory)

    return load


@pytest.mark.parametrize("method", ["rel-att", "grad-att"])
def test_a_sure_answer_runs_no_crop(
    calibrated: Callable[..., ViCropEngine], picture: Image.Image, method: str
) -> None:
    plain, least = spent(calibrated(1.5, method), image=picture, method="none")
    answer, cost = spent(calibrated(1.5, method), image=picture, method=method, when="auto")
    model = calibrated(1.5, method)._model
    general = len(model.prompts.general(model.family.layouts(Way())[0]).suffix) if method == "rel-att" else 0
    assert cost.vision_images == cost.vision_passes == 1
    assert cost.lower_passes == least.lower_passes
    assert cost.lower_tokens == least.lower_tokens + general
    assert cost.decode_steps == least.decode_steps
    assert answer.tokens.crop == 0
    assert (answer.crop_skipped, answer.crop_box, answer.heatmap) == (True, None, None)
    assert answer.method == method
    assert answer.token_ids == answer.first_token_ids == plain.token_ids
    assert (answer.answer, answer.answer_without_crop) == (plain.answer, plain.answer)
    assert answer.to_json()["crop_skipped"] is True


@pytest.mark.parametrize("method", ["rel-att", "grad-att"])
def test_an_unsure_answer_is_that_of_always(
    calibrated: Callable[..., ViCropEngine], picture: Image.Image, method: str
) -> None:
    always, whole = spent(calibrated(0.0, method), image=picture, method=method)
    answer, cost = spent(calibrated(0.0, method), image=picture, method=method, when="auto")
    assert cost == whole
    assert cost.vision_images == 2
    assert answer.tokens.crop > 0
    assert not answer.crop_skipped
    assert bare(answer) == bare(always)
    np.testing.assert_array_equal(answer.heatmap, always.heatmap)
    assert answer.crop_worth == always.crop_worth


def test_looked_and_found_not_worth_it(calibrated: Callable[..., ViCropEngine], picture: Image.Image) -> None:
    """Unsure, but the heatmap points nowhere: it is made, and the crop is not."""
    always, _ = spent(calibrated(0.0), image=picture)
    worth = always.crop_worth
    assert worth is not None
    answer, cost = spent(calibrated(worth * 1.001), image=picture, when="auto")
    assert (answer.crop_skipped, cost.vision_images) == (True, 1)
    assert answer.crop_worth == worth
    np.testing.assert_array_equal(answer.heatmap, always.heatmap)
    assert answer.answer == always.answer_without_crop
    enough, _ = spent(calibrated(worth), image=picture, when="auto")
    assert not enough.crop_skipped


def test_a_sure_answer_reads_no_tiles(calibrated: Callable[..., ViCropEngine], picture: Image.Image) -> None:
    large = picture.resize((2100, 1100))
    answer, cost = spent(calibrated(1.5), image=large, high_res="on", when="auto")
    assert (cost.vision_images, answer.tiles, answer.high_res) == (1, (), False)
    unsure, cost = spent(calibrated(0.0), image=large, high_res="on", when="auto")
    assert unsure.high_res
    assert cost.vision_images == 2 + len(unsure.tiles)


def test_the_first_answer_is_decoded_only_where_it_is_given(
    calibrated: Callable[..., ViCropEngine], picture: Image.Image
) -> None:
    answer, cost = spent(calibrated(0.0), image=picture, when="auto", first_answer=False)
    assert answer.answer_without_crop is None
    assert cost.decode_steps == len(answer.token_ids) - 1
    sure, _ = spent(calibrated(1.5), image=picture, when="auto", first_answer=False)
    assert sure.answer == sure.answer_without_crop


def test_a_picture_that_is_its_own_crop_shows_nothing_new(
    calibrated: Callable[..., ViCropEngine], picture: Image.Image
) -> None:
    small = picture.resize((120, 90))
    answer, cost = spent(calibrated(0.001), image=small, when="auto")
    assert (answer.crop_skipped, answer.crop_worth, cost.vision_images) == (True, 0.0, 1)
    cropped, _ = spent(calibrated(0.001), image=small)
    assert cropped.crop_box == (0, 0, 120, 90)


def test_never_is_method_none(engine: ViCropEngine, picture: Image.Image) -> None:
    never, cost = spent(engine, image=picture, when="never")
    assert (cost.vision_images, cost.general_prefills) == (1, 0)
    none, _ = spent(engine, image=picture, method="none", when="auto")
    assert bare(never).answer == none.answer
    assert never.method == none.method == "none"
    assert not never.crop_skipped
    assert never.crop_worth is None


def test_fewer_crop_tokens(engine: ViCropEngine, picture: Image.Image) -> None:
    tokens = engine.manifest.vision.image_tokens
    all_of_them, whole = spent(engine, image=picture)
    same, _ = spent(engine, image=picture, crop_tokens=tokens)
    assert bare(same).token_ids == all_of_them.token_ids
    assert same.tokens.crop == all_of_them.tokens.crop
    few, cost = spent(engine, image=picture, crop_tokens=9)
    assert few.tokens.crop == all_of_them.tokens.crop - (tokens - 9)
    assert few.crop_box == all_of_them.crop_box
    assert few.answer_without_crop == all_of_them.answer_without_crop
    assert cost.lower_tokens - cost.decode_steps < whole.lower_tokens - whole.decode_steps


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"when": "atuo"}, "unknown when 'atuo'.*did you mean 'auto'"),
        ({"when": "auto"}, "never measured.*'vicrop-engine calibrate ENGINE'"),
        ({"when": "auto", "method": "grad-att"}, "calibrate ENGINE --method grad-att'"),
        ({"when": "auto", "box": (0, 0, 9, 9)}, "a box is always cropped to"),
        ({"when": "never", "box": (0, 0, 9, 9)}, "a box is always cropped to"),
        ({"when": "auto", "method": GivenBox((0, 0, 9, 9))}, "a localizer of your own"),
        ({"when": "never", "high_res": "on"}, "'on' and when 'never'"),
        ({"crop_tokens": 0}, "got crop_tokens 0"),
        ({"crop_tokens": "few"}, "wanted 'all' or a whole number"),
    ],
)
def test_settings_that_cannot_be(
    engine: ViCropEngine, picture: Image.Image, keywords: dict[str, object], words: str
) -> None:
    with pytest.raises(SettingError, match=words):
        engine.ask(picture, QUESTION, **keywords)  # type: ignore[arg-type]
    assert engine.counters == Counters()
