"""`calibrate` on the shipped model: a number, its curve and its plot; then `ask --when auto`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Run, refused
from vicrop_engine.engine_dir.manifest import read_manifest
from vicrop_engine.engine_dir.registry import find_model
from vicrop_engine.examples import SIGNS, signs

MODEL = find_model("llava-signs")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A copy of the shipped engine that was never calibrated."""
    directory = tmp_path / "engine"
    shutil.copytree(MODEL.shipped_engine, directory)
    document = json.loads((directory / "manifest.json").read_text())
    document.pop("calibrations", None)
    (directory / "manifest.json").write_text(json.dumps(document))
    return directory


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """Some of the built-in examples."""
    chosen = [
        {"image": str(SIGNS / path.name), "question": each.question, "answer": each.answer, "box": each.box}
        for path, each in signs()[:60]
    ]
    path = tmp_path / "examples.json"
    path.write_text(json.dumps(chosen))
    return path


def test_calibrate_then_ask(run: Run, engine: Path, examples: Path, tmp_path: Path) -> None:
    plot, picture = tmp_path / "curve.png", MODEL.home / "demo.png"
    question = json.loads((MODEL.home / "demo.json").read_text())["question"]
    refused(run("ask", engine, picture, question, "--when", "auto"), "vicrop-engine calibrate ENGINE")
    ran = run("calibrate", engine, "--examples", examples, "--plot", plot, "--json")
    assert (ran.status, ran.err) == (0, "")
    document = json.loads(ran.out)
    assert document["examples"] == 60
    assert document["auto"] >= document["first"] + 0.95 * (document["always"] - document["first"])
    assert 0 < document["cost"] < 1
    (kept,) = read_manifest(engine).calibrations
    assert (kept.method, kept.threshold) == ("rel-att", document["threshold"])
    with Image.open(plot) as drawn:
        assert drawn.size == (1400, 900)
        assert len(drawn.getcolors(1 << 16) or ()) > 10
    answer = json.loads(run("ask", engine, picture, question, "--when", "auto", "--json").out)
    assert answer["crop_skipped"] == (answer["crop_worth"] < kept.threshold)
    assert (answer["crop_box"] is None) == answer["crop_skipped"]
    shown = run("ask", engine, picture, question, "--when", "auto", "--crop-tokens", "36")
    assert shown.status == 0


def test_a_sure_answer_says_that_no_crop_was_made(run: Run, engine: Path, examples: Path) -> None:
    assert run("calibrate", engine, "--examples", examples).status == 0
    document = json.loads((engine / "manifest.json").read_text())
    document["calibrations"][0]["threshold"] = 1.5
    (engine / "manifest.json").write_text(json.dumps(document))
    ran = run("ask", engine, MODEL.home / "demo.png", "What is written on the red sign?", "--when", "auto")
    assert "crop" in dict(line.split("  ", 1) for line in ran.out.splitlines())
    assert "skipped: it was unlikely to change the answer" in ran.out


def test_what_cannot_be_calibrated(run: Run, engine: Path, engine_directory: Path, tmp_path: Path) -> None:
    unanswered = tmp_path / "list.json"
    (path, example), *_ = signs()
    unanswered.write_text(
        json.dumps([{"image": str(path), "question": example.question, "box": list(example.box)}])
    )
    refused(run("calibrate", engine, "--examples", unanswered), 'example 0 has no "answer"')
    refused(run("calibrate", engine, "--accuracy", "1.5"), "--accuracy 1.5", "up to 1")
    refused(run("calibrate", engine, "--method", "none"), "makes no crop")
    refused(run("calibrate", engine, "--plot", tmp_path / "curve.gif"), "wanted a name that ends in .png")
    document = [
        {"image": str(path), "question": example.question, "answer": "nothing", "box": list(example.box)}
    ]
    unanswered.write_text(json.dumps(document))
    refused(run("calibrate", engine_directory, "--examples", unanswered), "gains nothing")
    assert read_manifest(engine_directory).calibrations == ()
