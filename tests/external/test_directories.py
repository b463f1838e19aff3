"""Directories of localizer models: what is refused when building and opening, and what may be replaced."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import YolosForObjectDetection

from tests.external.built import checkpoint, read_tool_as_is, tool
from vicrop_engine.engine_dir.files import hash_file
from vicrop_engine.engine_dir.registry import ToolName, cached_tool
from vicrop_engine.errors import (
    CheckpointError,
    EngineDamagedError,
    EngineDirectoryError,
    ParityError,
    ToolMissingError,
    ViCropError,
)
from vicrop_engine.external.manifest import REQUIRED, write_tool
from vicrop_engine.external.toolbox import Toolbox
from vicrop_export.external.build import EXPORTERS, build_tool
from vicrop_export.external.exported import measure, noise
from vicrop_export.external.yolo import Detections, detector_interface

KINDS: tuple[ToolName, ...] = ("clip", "yolo", "sam")
OPENERS: dict[ToolName, Callable[[Toolbox], object]] = {
    "clip": Toolbox.similarity,
    "yolo": Toolbox.detector,
    "sam": Toolbox.segmenter,
}


def opened(kind: ToolName, directory: Path) -> object:
    return OPENERS[kind](Toolbox({kind: directory}))


def copied(kind: ToolName, place: Path) -> Path:
    return Path(shutil.copytree(tool(kind), place))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_every_kind_has_an_exporter_and_an_opener() -> None:
    assert set(EXPORTERS) == set(OPENERS) == set(REQUIRED)


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
@pytest.mark.parametrize("kind", KINDS)
def test_every_damaged_file_is_named_with_what_mends_it(
    tmp_path: Path, kind: ToolName, damage: Callable[[Path], None]
) -> None:
    files = sorted(read_tool_as_is(tool(kind)).files)
    assert {*REQUIRED[kind]} <= {*files} == {path.name for path in tool(kind).iterdir()} - {"manifest.json"}
    for name in files:
        directory = copied(kind, tmp_path / name)
        damage(directory / name)
        with pytest.raises(EngineDamagedError) as caught:
            opened(kind, directory)
        assert name in str(caught.value)
        assert f"rebuild it with 'vicrop-engine build {kind} --force'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", EngineDamagedError, "not valid JSON"),
        ("[]", EngineDamagedError, "no object"),
        ("{}", EngineDirectoryError, "kind 'engine', wanted 'clip'"),
        ('{"kind": "sam"}', EngineDirectoryError, "kind 'sam', wanted 'clip'"),
        ('{"kind": []}', EngineDirectoryError, r"kind \[\], wanted 'clip'"),
        ('{"kind": "clip"}', EngineDirectoryError, "schema is None and this version reads 1"),
        ('{"kind": "clip", "schema": 9}', EngineDirectoryError, "schema is 9"),
        ('{"kind": "clip", "schema": 1, "sorce": ""}', EngineDamagedError, "did you mean 'source'"),
    ],
)
def test_a_damaged_manifest_is_refused(
    tmp_path: Path, text: str, error: type[ViCropError], words: str
) -> None:
    directory = copied("clip", tmp_path / "clip")
    (directory / "manifest.json").write_text(text)
    with pytest.raises(error, match=words):
        opened("clip", directory)


def test_a_manifest_without_a_graph_is_refused(tmp_path: Path) -> None:
    directory = copied("clip", tmp_path / "clip")
    manifest = read_tool_as_is(directory)
    files = {name: entry for name, entry in manifest.files.items() if name != "clip_text.onnx"}
    write_tool(directory, replace(manifest, files=files))
    with pytest.raises(EngineDamagedError, match=r"lists no clip_text\.onnx"):
        opened("clip", directory)


@pytest.mark.parametrize("change", [{"context_length": "77"}, {"contxt_length": 77}])
def test_settings_are_read_strictly(tmp_path: Path, change: dict[str, object]) -> None:
    directory = copied("clip", tmp_path / "clip")
    path = directory / "settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    manifest = read_tool_as_is(directory)
    write_tool(directory, replace(manifest, files=manifest.files | {path.name: hash_file(path)}))
    with pytest.raises(EngineDamagedError, match=r"settings\.json: .*context_length.*build clip --force"):
        opened("clip", directory)


def test_a_graph_that_is_none_is_refused(tmp_path: Path) -> None:
    directory = copied("yolo", tmp_path / "yolo")
    (directory / "yolo.onnx").write_bytes(b"nothing")
    manifest = read_tool_as_is(directory)
    entry = hash_file(directory / "yolo.onnx")
    write_tool(directory, replace(manifest, files=manifest.files | {"yolo.onnx": entry}))
    with pytest.raises(EngineDamagedError, match=r"yolo\.onnx cannot be opened .* build yolo --force"):
        opened("yolo", directory)


def test_a_model_in_the_cache_is_found_and_opened_once() -> None:
    toolbox = Toolbox()
    with pytest.raises(ToolMissingError, match="never built here"):
        toolbox.detector()
    copied("yolo", cached_tool("yolo"))
    assert toolbox.detector() is toolbox.detector()


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_of_another_type_is_refused_by_name(tmp_path: Path, kind: ToolName) -> None:
    types = {"clip": "clip", "yolo": "yolos", "sam": "sam"}
    for other in set(KINDS) - {kind}:
        words = f"of type '{types[other]}', wanted '{types[kind]}', such as {EXPORTERS[kind].WANTED.example}"
        with pytest.raises(CheckpointError, match=words):
            build_tool(kind, checkpoint(other), tmp_path / "made")
    assert list(tmp_path.iterdir()) == [tmp_path / "cache"] or list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("config.json", "names no model type"),
        ("tokenizer.json", "no tokenizer.json"),
        ("preprocessor_config.json", "no preprocessor_config.json"),
        ("model.safetensors", "no model.safetensors"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(tmp_path: Path, file: str, words: str) -> None:
    part = Path(shutil.copytree(checkpoint("clip"), tmp_path / "part"))
    (part / file).unlink()
    with pytest.raises(CheckpointError, match=words):
        build_tool("clip", part, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_missing_weights_are_never_made_up(tmp_path: Path) -> None:
    part = Path(shutil.copytree(checkpoint("yolo"), tmp_path / "part"))
    weights = load_file(part / "model.safetensors")
    del weights["bbox_predictor.layers.1.weight"]
    save_file(weights, part / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights are missing .* bbox_predictor\.layers\.1\.weight"):
        build_tool("yolo", part, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_processor_of_another_kind_is_refused(tmp_path: Path) -> None:
    part = Path(shutil.copytree(checkpoint("sam"), tmp_path / "part"))
    shutil.copy(checkpoint("clip") / "preprocessor_config.json", part)
    with pytest.raises(CheckpointError, match="image processor CLIPImageProcessor is not supported"):
        build_tool("sam", part, tmp_path / "made")


def test_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a SAM checkpoint or a hub id such as 'facebook/sam-vit-base'"):
        build_tool("sam", tmp_path / "nowhere", tmp_path / "made")


def test_the_same_model_is_kept_and_another_only_replaced_by_force(tmp_path: Path) -> None:
    directory = copied("yolo", tmp_path / "made")
    before = (directory / "manifest.json").stat().st_mtime_ns
    build_tool("yolo", checkpoint("yolo"), directory)
    assert (directory / "manifest.json").stat().st_mtime_ns == before
    other = Path(shutil.copytree(checkpoint("yolo"), tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"id2label": {str(n): "x" for n in range(5)}}))
    with pytest.raises(EngineDirectoryError, match=r"another yolo \(yolo-checkpoint\); --force replaces it"):
        build_tool("yolo", other, directory)
    with pytest.raises(EngineDirectoryError, match=r"other files \(yolo\.onnx\) and is left alone"):
        build_tool("clip", checkpoint("clip"), Path(shutil.copytree(directory, tmp_path / "x")))
    (directory / "notes.txt").write_text("mine")
    with pytest.raises(EngineDirectoryError, match=r"notes\.txt"):
        build_tool("yolo", other, directory, force=True)


def test_what_differs_from_transformers_is_refused() -> None:
    model = YolosForObjectDetection.from_pretrained(checkpoint("yolo"), attn_implementation="eager").eval()
    model.requires_grad_(False)
    interface, probes = detector_interface(64, 96), [[noise(1, 3, 64, 96)]]
    path = tool("yolo") / "yolo.onnx"
    assert max(measure(path, Detections(model), interface, probes).values()) <= 1e-4
    bias: torch.Tensor = model.bbox_predictor.layers[2].bias
    bias += 0.01
    with pytest.raises(ParityError, match=r"the exported boxes are .* wanted at most 1e-04"):
        measure(path, Detections(model), interface, probes)
