"""The number that is kept: the highest threshold that surely keeps enough, its costs, and where it is put."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.samples import MANIFEST
from vicrop_engine import ViCropEngine
from vicrop_engine.engine_dir import manifest as manifest_file
from vicrop_engine.engine_dir.manifest import add_calibration, read_manifest
from vicrop_engine.engine_dir.records import Calibration, CurvePoint
from vicrop_engine.engine_dir.verify import checked_manifest
from vicrop_engine.errors import ExamplesError
from vicrop_engine.images.seen import Way
from vicrop_engine.measure.calibration import (
    MOST_POINTS,
    Trial,
    calibrated,
    cost,
    full_curve,
    is_right,
    try_examples,
    vision_cost,
)

FOUND = Calibration("rel-att", 0.25, 0.95, 9, 0.5, 1.0, 0.9, 0.4, (CurvePoint(0.0, 1.0, 1.0),))


def trials(count: int, gains_from: float) -> list[Trial]:
    """As many with worth spread evenly over 0 to 1; from `gains_from` on the crop is what makes it right."""
    worths = [(number + 0.5) / count for number in range(count)]
    return [Trial(worth, 1 - worth, worth < gains_from, True, 10, 90) for worth in worths]


def test_the_threshold_leaves_out_what_gains_nothing() -> None:
    found = calibrated("rel-att", trials(1000, gains_from=0.6), keeps=0.95)
    assert 0.6 <= found.threshold < 0.62
    assert found.auto >= found.first + 0.95 * (found.always - found.first)
    assert found.cost == pytest.approx(0.1 + 0.9 * (1 - found.threshold), abs=0.01)
    assert (found.examples, found.first, found.always) == (1000, 0.6, 1.0)


def test_few_examples_are_trusted_less() -> None:
    """With the same shares; the lower bound of what is kept is what counts."""
    few, many = (calibrated("rel-att", trials(count, 0.6), keeps=0.9) for count in (40, 4000))
    assert few.threshold < many.threshold


def test_no_gain_no_number() -> None:
    with pytest.raises(ExamplesError, match="gains nothing on these examples, of which 10 of 10"):
        calibrated("rel-att", trials(10, gains_from=1.0), keeps=0.95)


def test_the_curve_goes_from_every_crop_to_none() -> None:
    every = trials(300, 0.6)
    curve = full_curve(every, [trial.worth for trial in every])
    assert (curve[0].cost, curve[0].accuracy) == (1.0, 1.0)
    assert (curve[-1].cost, curve[-1].accuracy) == (pytest.approx(0.1), pytest.approx(0.6))
    assert [point.cost for point in curve] == sorted((point.cost for point in curve), reverse=True)
    found = calibrated("rel-att", every, keeps=0.95)
    assert len(found.curve) <= MOST_POINTS + 2
    assert CurvePoint(found.threshold, found.cost, found.auto) in found.curve
    lazy = full_curve(every, [trial.worth for trial in every], aside=False)
    assert lazy[-1].cost == 0


@pytest.mark.parametrize(("answer", "right"), [("K7", "k7"), (" k7. ", "K7"), ("K7.", "K7")])
def test_case_and_full_stop_do_not_matter(answer: str, right: str) -> None:
    assert is_right(answer, right)
    assert not is_right(answer, "K8")


@pytest.mark.parametrize("method", ["rel-att", "grad-att"])
def test_costs_are_those_of_the_counters(engine_directory: Path, picture: Image.Image, method: str) -> None:
    """Aside and crop add up to what cropping adds; the crop's part is its picture, prompt and decode."""
    engine = ViCropEngine.load(engine_directory, cache_bytes=0)
    (trial,) = try_examples(engine, [(picture, "What is it?", "nothing")], method)
    counts = [engine.counters]
    for each in ("none", method):
        engine.ask(picture, "What is it?", method=each)
        counts.append(engine.counters)
    plain, always = (cost(counts[at], counts[at + 1], engine.manifest) for at in range(2))
    assert trial.aside + trial.crop == pytest.approx(always - plain, abs=1)
    layers = engine.manifest.decoder.num_layers
    model = engine._model
    general = len(model.prompts.general(model.family.layouts(Way())[0]).suffix)
    general *= engine.manifest.decoder.num_lower_layers
    assert trial.aside == (general if method == "rel-att" else 3 * layers)
    assert trial.crop > vision_cost(engine.manifest) > 0


@pytest.fixture
def directory(engine_directory: Path, tmp_path: Path) -> Path:
    shutil.copytree(engine_directory, tmp_path / "engine")
    return tmp_path / "engine"


def test_a_calibration_is_kept_in_the_manifest(directory: Path) -> None:
    before = read_manifest(directory)
    add_calibration(directory, FOUND)
    other = Calibration("grad-att", 0.5, 0.95, 9, 0.5, 1.0, 0.9, 0.4, ())
    add_calibration(directory, other)
    again = Calibration("rel-att", 0.75, 0.9, 9, 0.5, 1.0, 0.9, 0.4, ())
    add_calibration(directory, again)
    after = checked_manifest(directory, verify=True)
    assert after.calibrations == (other, again)
    assert after.files == before.files
    assert {path.name for path in directory.iterdir()} == {*after.files, "manifest.json"}
    assert ViCropEngine.load(directory).manifest == after


def test_a_write_that_fails_changes_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (directory / "manifest.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest_file.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        add_calibration(directory, FOUND)
    assert (directory / "manifest.json").read_bytes() == whole
    assert not [path for path in directory.iterdir() if "partial" in path.name]


def test_engines_without_one_load() -> None:
    document = MANIFEST.to_dict()
    del document["calibrations"]
    assert type(MANIFEST).from_dict(document) == MANIFEST
    assert np.size(MANIFEST.calibrations) == 0
