"""`demo`: the embedded model on the embedded picture; here the package's own files are stood in for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Run
from vicrop_engine.engine_dir import registry as models


@pytest.fixture
def embedded(engine_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose embedded model is the small random engine."""
    monkeypatch.setattr(models, "EMBEDDED", tmp_path / "embedded")
    home = models.find_model("llava-signs").home
    shutil.copytree(engine_directory, home / "engine")
    values = np.random.default_rng(8).integers(0, 256, (300, 600, 3), dtype=np.uint8)
    Image.fromarray(values).save(home / "demo.png")
    document = {"question": "What is written on the red sign?", "answer": "K7", "box": [0, 0, 9, 9]}
    (home / "demo.json").write_text(json.dumps(document))
    return home


@pytest.mark.usefixtures("embedded")
def test_demo_prints_both_answers_and_the_box_and_writes_the_overlay(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "new" / "place"
    ran = run("demo", "--out", out)
    assert (ran.status, ran.err) == (0, "")
    lines = dict(line.split("  ", 1) for line in ran.out.splitlines())
    assert lines["question"].strip() == "What is written on the red sign?"
    assert lines["written there"].strip() == "K7"
    assert lines["answer"].strip()
    assert lines["answer without crop"].strip()
    assert lines["crop box"].strip().endswith("of 600 x 300 pixels")
    assert lines["overlay"].strip() == str(out / "overlay.png")
    assert [path.name for path in out.iterdir()] == ["overlay.png"]
    with Image.open(out / "overlay.png") as overlay:
        assert overlay.width == 1600


def test_the_shipped_engine_answers_without_building(run: Run, embedded: Path, own_cache: Path) -> None:
    ran = run("ask", "llava-signs", embedded / "demo.png", "What is written on the red sign?", "--json")
    assert (ran.status, ran.err) == (0, "")
    assert not (own_cache / "engines").exists()


@pytest.mark.usefixtures("embedded")
def test_a_place_that_is_a_file_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    ran = run("demo", "--out", tmp_path / "taken")
    assert (ran.status, ran.out) == (2, "")
    assert "taken" in ran.err
    assert (tmp_path / "taken").read_text() == "mine"
