"""`ask` on a small engine: what it prints, what it writes, and that one JSON document holds it all."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Run, refused
from vicrop_engine import builder
from vicrop_engine.engine_dir.registry import KnownModel

QUESTION = "What is written on the red sign?"
KEYS = {
    *("answer", "answer_without_crop", "method", "high_res", "crop_box", "image_size", "heatmap"),
    *("layers", "confidence", "timings", "tokens", "engine", "crop_skipped", "crop_worth"),
}
STAGES = ("preprocess", "vision", "prefill", "heatmap", "crop_vision", "crop_prefill", "decode")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A landscape picture with detail everywhere."""
    path = tmp_path / "picture.png"
    values = np.random.default_rng(3).integers(0, 256, (400, 700, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def test_json_is_one_document_with_the_contracts_keys(
    run: Run, engine_directory: Path, picture: Path
) -> None:
    ran = run("ask", engine_directory, picture, QUESTION, "--json", "--max-new-tokens", "4")
    assert (ran.status, ran.err) == (0, "")
    document = json.loads(ran.out)
    assert set(document) == KEYS
    assert document["method"] == "rel-att"
    assert document["high_res"] is False
    assert document["image_size"] == [700, 400]
    x0, y0, x1, y1 = document["crop_box"]
    assert 0 <= x0 < x1 <= 700
    assert 0 <= y0 < y1 <= 400
    heatmap = document["heatmap"]
    assert np.shape(heatmap["values"]) == (heatmap["rows"], heatmap["cols"]) == (12, 12)
    assert 0 < document["confidence"] <= 1
    assert set(document["timings"]) == {*STAGES, "total"}
    assert sum(document["timings"][stage] for stage in STAGES) == pytest.approx(
        document["timings"]["total"], rel=0.05
    )
    assert set(document["tokens"]) == {"prefill", "reused", "decoded", "crop"}
    assert document["engine"] == {
        "model": "llava-signs",
        "precision": "fp32",
        "provider": "CPUExecutionProvider",
    }


def test_a_method_says_more_where_it_knows_more(run: Run, engine_directory: Path, picture: Path) -> None:
    few = ("--json", "--max-new-tokens", "2")
    sought = run("ask", engine_directory, picture, QUESTION, "--method", "target", "--target", "a car", *few)
    document = json.loads(sought.out)
    assert set(document) == KEYS | {"target", "target_from"}
    assert (document["target"], document["target_from"]) == ("car", "given")
    carved = json.loads(run("ask", engine_directory, picture, QUESTION, "--method", "carve", *few).out)
    assert set(carved) == KEYS | {"crop_parts"}
    shown = run("ask", engine_directory, picture, QUESTION, "--method", "target", "--max-new-tokens", "2")
    assert "looked for" in shown.out
    assert "red sign (noun phrase)" in shown.out


def test_the_divisor_has_a_floor_where_asked_for(run: Run, engine_directory: Path, picture: Path) -> None:
    few = ("--json", "--max-new-tokens", "1")
    plain = json.loads(run("ask", engine_directory, picture, QUESTION, *few).out)
    held = json.loads(run("ask", engine_directory, picture, QUESTION, "--divisor-floor", "1", *few).out)
    one, other = (np.array(each["heatmap"]["values"]) for each in (held, plain))
    assert (one <= other * (1 + 1e-5)).all(), "a larger divisor raises nothing"
    assert (one < other * 0.99).any()
    no = run("ask", engine_directory, picture, QUESTION, "--divisor-floor", "-1")
    refused(no, "got divisor_floor -1.0", "wanted a share of a mean above 0")


def test_the_same_question_gives_the_same_answer(run: Run, engine_directory: Path, picture: Path) -> None:
    first, second = (
        json.loads(run("ask", engine_directory, picture, QUESTION, "--json").out) for _ in range(2)
    )
    for document in (first, second):
        del document["timings"]
    assert first == second


def test_the_number_of_threads_changes_no_answer(run: Run, engine_directory: Path, picture: Path) -> None:
    answers = []
    for threads in ("1", "2"):
        ran = run("ask", engine_directory, picture, QUESTION, "--json", "--threads", threads)
        assert (ran.status, ran.err) == (0, "")
        answers.append({**json.loads(ran.out), "timings": None})
    assert answers[0] == answers[1]


def test_threads_below_one_are_refused(run: Run, engine_directory: Path, picture: Path) -> None:
    refused(run("ask", engine_directory, picture, QUESTION, "--threads", "0"), "threads 0", "from 1 up")


def test_people_read_answers_and_box(run: Run, engine_directory: Path, picture: Path) -> None:
    document = json.loads(run("ask", engine_directory, picture, QUESTION, "--json").out)
    ran = run("ask", engine_directory, picture, QUESTION)
    lines = dict(line.split("  ", 1) for line in ran.out.splitlines())
    assert lines["answer"].strip() == document["answer"].strip()
    assert lines["answer without crop"].strip() == document["answer_without_crop"].strip()
    assert lines["crop box"].strip() == f"{', '.join(map(str, document['crop_box']))} of 700 x 400 pixels"
    assert lines["method"].strip() == "rel-att, layer 1"
    assert ran.err == ""


def test_method_none_makes_no_crop(run: Run, engine_directory: Path, picture: Path) -> None:
    document = json.loads(run("ask", engine_directory, picture, QUESTION, "--method", "none", "--json").out)
    assert document["crop_box"] is None
    assert document["heatmap"] is None
    assert document["answer"] == document["answer_without_crop"]


def test_a_given_box_is_the_crop(run: Run, engine_directory: Path, picture: Path) -> None:
    document = json.loads(
        run("ask", engine_directory, picture, QUESTION, "--box", "10,20,300,310", "--json").out
    )
    assert document["crop_box"] == [10, 20, 300, 310]


def test_the_first_answer_can_be_left_out(run: Run, engine_directory: Path, picture: Path) -> None:
    whole = json.loads(run("ask", engine_directory, picture, QUESTION, "--json").out)
    document = json.loads(run("ask", engine_directory, picture, QUESTION, "--no-first-answer", "--json").out)
    assert document["answer_without_crop"] is None
    assert document["answer"] == whole["answer"]


@pytest.mark.parametrize(("layers", "read"), [("0", [0]), ("1-3", [1, 2, 3]), ("all", [0, 1, 2, 3])])
def test_layers_are_those_asked_for(
    run: Run, engine_directory: Path, picture: Path, layers: str, read: list[int]
) -> None:
    document = json.loads(run("ask", engine_directory, picture, QUESTION, "--layers", layers, "--json").out)
    assert document["layers"] == read


def test_compat_and_its_absence_are_both_taken(run: Run, engine_directory: Path, picture: Path) -> None:
    ran = run(
        "ask", engine_directory, picture, QUESTION, "--compat", "mllms-know", "--high-res", "off", "--json"
    )
    assert ran.status == 0
    assert json.loads(ran.out)["heatmap"] is not None


def test_the_overlay_is_written_beside_the_result(run: Run, engine_directory: Path, picture: Path) -> None:
    target = picture.parent / "seen.png"
    ran = run("ask", engine_directory, picture, QUESTION, "--overlay", target, "--json")
    assert json.loads(ran.out)["answer"] is not None
    with Image.open(target) as overlay:
        assert (overlay.format, overlay.mode, overlay.width) == ("PNG", "RGB", 1600)
    assert sorted(path.name for path in picture.parent.iterdir() if path.is_file()) == [
        "picture.png",
        "seen.png",
    ]


def test_the_heatmap_is_written_as_numpy_s_file(run: Run, engine_directory: Path, picture: Path) -> None:
    target = picture.parent / "heat.npy"
    ran = run("ask", engine_directory, picture, QUESTION, "--heatmap", target, "--json")
    assert (ran.status, ran.err) == (0, "")
    values = np.load(target, allow_pickle=False)
    assert (values.dtype, values.shape) == (np.float32, (12, 12))
    np.testing.assert_allclose(values, json.loads(ran.out)["heatmap"]["values"], rtol=1e-6)
    assert sorted(path.name for path in picture.parent.iterdir() if path.is_file()) == [
        "heat.npy",
        "picture.png",
    ]


def test_without_a_heatmap_it_is_said_and_nothing_is_written(
    run: Run, engine_directory: Path, picture: Path
) -> None:
    target = picture.parent / "heat.npy"
    ran = run("ask", engine_directory, picture, QUESTION, "--heatmap", target, "--method", "none")
    assert ran.status == 0
    assert ran.err == f"{target} is not written: none made no heatmap of this picture\n"
    assert not target.exists()


def test_high_res_looks_in_tiles_and_draws_them(run: Run, engine_directory: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(4).integers(0, 256, (12, 24, 3), dtype=np.uint8)
    path = tmp_path / "wide.png"
    Image.fromarray(values).resize((1400, 300), Image.Resampling.BICUBIC).save(path)
    ask = ("ask", engine_directory, path, QUESTION, "--max-new-tokens", "2")
    auto = json.loads(run(*ask, "--json").out)
    ran = run(*ask, "--high-res", "on", "--json", "--overlay", tmp_path / "seen.png")
    document = json.loads(ran.out)
    assert (auto["high_res"], document["high_res"]) == (False, True)
    assert (document["heatmap"]["rows"], document["heatmap"]["cols"]) == (12, 24)
    assert document["answer_without_crop"] == auto["answer_without_crop"]
    shown = run(*ask, "--high-res", "on")
    assert "rel-att, layer 1, high-res in 2 tiles" in shown.out
    with Image.open(tmp_path / "seen.png") as overlay:
        assert overlay.width == 1600


def test_help_states_the_rule_of_auto(run: Run) -> None:
    text = " ".join(run("ask", "--help").out.split())
    for words in ("1024 pixels", "over 1536 pixels", "100 tiles"):
        assert words in text


def test_a_full_disk_leaves_no_overlay(
    run: Run, engine_directory: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(self: Image.Image, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fill)
    ran = run("ask", engine_directory, picture, QUESTION, "--overlay", picture.parent / "seen.png")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == "error: no space left on the device; free some and run it again\n"
    assert [path.name for path in picture.parent.iterdir() if path.is_file()] == ["picture.png"]


def test_a_named_model_is_built_once_and_says_so(
    run: Run,
    engine_directory: Path,
    picture: Path,
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[Path] = []

    def copy(model: KnownModel, output: Path, **_: object) -> None:
        built.append(output)
        shutil.copytree(engine_directory, output)

    monkeypatch.setattr(builder, "build_model", copy)
    first = run("ask", "llava-1.5", picture, QUESTION, "--json")
    second = run("ask", "llava-1.5", picture, QUESTION, "--json")
    place = own_cache / "engines" / "llava-1.5"
    assert first.err == f"llava-1.5 was never built here; building it once into {place}\n"
    assert second.err == ""
    assert built == [place]
    assert json.loads(first.out)["answer"] == json.loads(second.out)["answer"]


def test_the_log_of_the_package_goes_to_standard_error_only(run: Run, engine_directory: Path) -> None:
    ran = run("info", engine_directory, "--json")
    assert ran.status == 0
    assert all(
        type(handler) is logging.StreamHandler for handler in logging.getLogger("vicrop_engine").handlers
    )


def test_a_process_of_its_own_prints_only_the_document(
    engine_directory: Path, picture: Path, own_cache: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "vicrop_engine.cli",
        "ask",
        str(engine_directory),
        str(picture),
        QUESTION,
        "--json",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "VICROP_HOME": str(own_cache)}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(json.loads(done.stdout)) == KEYS
