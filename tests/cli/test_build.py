"""`build` and `info` through the command line: a directory that answers, its facts, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.engines import STRETCH_168, built
from tests.runtime.fake_driver import FakeDriver, pretend_libraries
from tests.runtime.installed import pretend_installed
from vicrop_engine.engine_dir.manifest import read_manifest
from vicrop_engine.engine_dir.registry import MODELS


def test_build_makes_an_engine_in_the_cache_and_says_what_it_is(run: Run, own_cache: Path) -> None:
    checkpoint = built(STRETCH_168).checkpoint
    ran = run("build", "llava-1.5", "--checkpoint", checkpoint, "--layers", "2-3")
    assert ran.status == 0
    directory = own_cache / "engines" / "llava-1.5"
    manifest = read_manifest(directory)
    assert (manifest.model.name, manifest.crop.layers) == ("llava-1.5", (2, 3))
    assert str(directory) in ran.out
    assert f"image_embeds {manifest.parity.image_embeds:.1e}" in ran.out
    assert "exporting vision" in ran.err
    assert json.loads(run("info", "llava-1.5", "--json").out)["directory"] == str(directory)
    assert [path.name for path in directory.parent.iterdir()] == ["llava-1.5"]


def test_bad_build_settings_leave_nothing_behind(run: Run, tmp_path: Path) -> None:
    checkpoint = built(STRETCH_168).checkpoint
    target = tmp_path / "made"
    for options, words in (
        ((checkpoint, "--layers", "9"), "from 0 to 3"),
        ((tmp_path / "nowhere",), "does not exist"),
        ((checkpoint / "config.json",), "is a file"),
    ):
        ran = run("build", "llava-1.5", "-o", target, "--checkpoint", *options)
        assert (ran.status, ran.out) == (2, "")
        assert words in ran.err.splitlines()[-1]
    assert [path for path in tmp_path.iterdir() if "made" in path.name] == []


def test_build_leaves_other_peoples_files_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "thesis.txt").write_text("mine")
    checkpoint = built(STRETCH_168).checkpoint
    ran = run("build", "llava-1.5", "--checkpoint", checkpoint, "-o", tmp_path / "made", "--force")
    assert (ran.status, ran.out) == (2, "")
    assert "thesis.txt" in ran.err.splitlines()[-1]
    assert (tmp_path / "made" / "thesis.txt").read_text() == "mine"


def test_info_on_an_engine_is_its_manifest(run: Run, engine_directory: Path) -> None:
    document = json.loads(run("info", engine_directory, "--verify", "--json").out)
    manifest = read_manifest(engine_directory)
    assert document["verified"] is True
    assert document["bytes"] == sum(entry.size for entry in manifest.files.values())
    assert {key: document[key] for key in manifest.to_dict()} == manifest.to_dict()
    lines = run("info", engine_directory).out
    assert "llava-signs (llava-1.5)" in lines
    assert "168 px, 12 x 12 patches" in lines
    assert "sizes agree" in lines


def test_info_on_the_machine_names_providers_and_models(run: Run, own_cache: Path) -> None:
    document = json.loads(run("info", "--json").out)
    assert "CPUExecutionProvider" in document["providers"]
    limits = document["limits"]
    assert 1 <= limits["cores"] <= (os.cpu_count() or 1)
    assert limits["memory"] > 1 << 20
    assert limits["cores_set_by"]
    assert limits["memory_set_by"]
    assert document["cache"] == str(own_cache)
    assert set(document["models"]) == {model.name for model in MODELS}
    assert document["models"]["llava-1.5"] is None
    assert "not built yet" in run("info").out


def test_info_on_the_machine_says_what_runs_and_why_not_the_rest(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_libraries(monkeypatch, FakeDriver())
    document = json.loads(run("info", "--json").out)
    assert list(document["runs"]) == ["cpu", "cuda", "tensorrt", "tensorrt-rtx", "triton"]
    assert document["runs"]["cpu"]["able"] is True
    assert document["runs"]["cuda"]["able"] is False
    assert document["nvidia"]["cuda"] == [13, 2]
    assert [device["name"] for device in document["nvidia"]["devices"]] == ["Sample GPU A", "Sample GPU B"]
    lines = run("info").out
    assert "yes: onnxruntime" in lines
    assert "no: onnxruntime" in lines
    assert "Sample GPU B, 24.0 GiB, compute capability 8.9" in lines


def test_info_shows_two_packages_that_break_each_other(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend_installed(monkeypatch, tmp_path / "site", onnxruntime_gpu="1.31.9")
    ran = run("info")
    assert ran.status == 0
    assert "are both installed" in ran.out
    assert json.loads(run("info", "--json").out)["providers"] == []
