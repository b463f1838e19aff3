"""What a build does with what is already there: keep it, replace it when asked to, or leave it alone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.engines import STRETCH_168, Built, built
from vicrop_engine.engine_dir.files import hash_file
from vicrop_engine.engine_dir.layer_choice import LayerChoice
from vicrop_engine.engine_dir.manifest import Manifest, read_manifest, write_manifest
from vicrop_engine.errors import EngineDamagedError, EngineDirectoryError
from vicrop_export import build, existing
from vicrop_export.build import build_engine


@pytest.fixture(scope="module")
def made() -> Built:
    """The engine of the tests, built before any of them replaces a step of building."""
    return built(STRETCH_168)


@pytest.fixture
def engine(made: Built, tmp_path: Path) -> Path:
    """A copy of it that may be spoilt or replaced."""
    return Path(shutil.copytree(made.engine, tmp_path / "engine"))


@pytest.fixture
def no_work(made: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any step of a build that takes time fails."""

    def fail(*_: Any) -> None:
        pytest.fail("nothing was to be built")

    for name in (
        *("demand_space", "run_reference", "export_described", "check_exported"),
        *("write_graphs", "check_written", "measure_agreement"),
    ):
        monkeypatch.setattr(build, name, fail)


def build_again(output: Path, *, name: str = "llava-signs", **settings: Any) -> Manifest:
    return build_engine(built(STRETCH_168).checkpoint, output, name=name, **settings)


def contents(directory: Path) -> dict[str, Any]:
    return {path.name: (hash_file(path), path.stat().st_ino) for path in directory.iterdir()}


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("layers", [None, 1, "1", "1-1", (1, 1)])
def test_the_same_engine_is_kept(layers: LayerChoice | None, engine: Path) -> None:
    before = contents(engine)
    stages = []
    manifest = build_again(engine, layers=layers, progress=lambda stage, share: stages.append((stage, share)))
    assert manifest == built(STRETCH_168).manifest
    assert stages == [("reading the checkpoint", 0.0), ("already built", 1.0)]
    assert contents(engine) == before


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("settings", [{"layers": 2}, {"layers": "1-2"}, {"name": "llava-1.5"}])
def test_another_engine_is_refused(settings: dict[str, Any], engine: Path, tmp_path: Path) -> None:
    before = contents(engine)
    words = r"holds another engine \(llava-signs, layers 1, fp32 for cpu\); --force replaces it"
    with pytest.raises(EngineDirectoryError, match=words):
        build_again(engine, **settings)
    assert contents(engine) == before
    assert list(tmp_path.iterdir()) == [engine]


@pytest.mark.usefixtures("no_work")
def test_an_engine_without_the_graph_asked_for_is_another(engine: Path) -> None:
    words = r"llava-signs, layers 1, fp32 for cpu, without pure-grad\); --force replaces it"
    with pytest.raises(EngineDirectoryError, match=words):
        build_again(engine, pure_grad=True)


@pytest.mark.usefixtures("no_work")
def test_other_weights_make_another_engine(engine: Path, tmp_path: Path) -> None:
    checkpoint = Path(shutil.copytree(built(STRETCH_168).checkpoint, tmp_path / "checkpoint"))
    with (checkpoint / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read()
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(EngineDirectoryError, match="holds another engine"):
        build_engine(checkpoint, engine, name="llava-signs")


@pytest.mark.usefixtures("no_work")
def test_an_engine_of_another_version_is_another(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(existing, "versions", lambda: {"vicrop-engine": "99"})
    with pytest.raises(EngineDirectoryError, match="holds another engine"):
        build_again(engine)


@pytest.mark.parametrize("change", [{"precision": "int8"}, {"target": "cuda"}], ids=["precision", "target"])
@pytest.mark.usefixtures("no_work")
def test_precision_and_target_count(change: dict[str, str], engine: Path) -> None:
    write_manifest(engine, replace(read_manifest(engine), **change))
    with pytest.raises(EngineDirectoryError, match=r"int8 for cpu|fp32 for cuda"):
        build_again(engine)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("stranger", ["thesis.txt", "decoder_lower.onnx.bak", "photos"])
def test_other_files_are_left_alone(force: bool, stranger: str, engine: Path) -> None:
    if stranger == "photos":
        (engine / stranger).mkdir()
    else:
        (engine / stranger).write_text("mine")
    before = sorted(engine.iterdir())
    with pytest.raises(
        EngineDirectoryError, match=rf"holds other files \({stranger}\) and is left alone; give"
    ):
        build_again(engine, force=force)
    assert sorted(engine.iterdir()) == before


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("force", [False, True])
def test_a_file_in_its_place_is_left_alone(force: bool, tmp_path: Path) -> None:
    (tmp_path / "engine").write_text("mine")
    with pytest.raises(
        EngineDirectoryError, match="engine is a file; give -o a directory that does not exist"
    ):
        build_again(tmp_path / "engine", force=force)
    assert (tmp_path / "engine").read_text() == "mine"


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    "name", ["token_embeddings.npy", "decoder_lower.onnx.data", "vision.onnx", "tokenizer.json"]
)
def test_damage_of_any_file_is_told(name: str, engine: Path) -> None:
    data = bytearray((engine / name).read_bytes())
    data[len(data) // 2] ^= 1
    (engine / name).write_bytes(bytes(data))
    before = contents(engine)
    words = rf"{name}: sha256 differs from the manifest; .* 'vicrop-engine build llava-signs --force'"
    with pytest.raises(EngineDamagedError, match=words):
        build_again(engine)
    assert contents(engine) == before


@pytest.mark.usefixtures("no_work")
def test_a_missing_file_is_told(engine: Path) -> None:
    (engine / "vision.onnx").unlink()
    with pytest.raises(EngineDamagedError, match=r"vision\.onnx is missing; .* --force"):
        build_again(engine)


@pytest.mark.usefixtures("quick_export")
@pytest.mark.parametrize("spoil", ["another", "damaged", "no manifest", "whole"])
def test_force_replaces_any_engine(spoil: str, engine: Path, tmp_path: Path) -> None:
    if spoil == "another":
        write_manifest(engine, replace(read_manifest(engine), precision="int8"))
    elif spoil == "damaged":
        (engine / "decoder_upper.onnx").write_bytes(b"torn")
    elif spoil == "no manifest":
        (engine / "manifest.json").unlink()
    before = contents(engine)
    manifest = build_again(engine, force=True)
    assert read_manifest(engine) == manifest
    assert manifest.files == built(STRETCH_168).manifest.files
    inodes = {inode for _, inode in before.values()}
    assert all(inode not in inodes for _, inode in contents(engine).values())
    assert list(tmp_path.iterdir()) == [engine]


@pytest.mark.usefixtures("quick_export")
def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    assert build_again(tmp_path / "engine") == read_manifest(tmp_path / "engine")
