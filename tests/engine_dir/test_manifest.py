"""Engine directories that do not agree with their manifest are refused with the command that mends them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.samples import MANIFEST
from vicrop_engine.engine_dir.files import hash_file
from vicrop_engine.engine_dir.manifest import (
    GRAPHS,
    REQUIRED,
    SCHEMA_VERSION,
    read_manifest,
    verify_files,
    write_manifest,
)
from vicrop_engine.engine_dir.registry import cache_directory, cached_engine, find_engine
from vicrop_engine.engine_dir.verify import checked_manifest
from vicrop_engine.errors import EngineDamagedError, EngineDirectoryError, SettingError


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the right files and nonsense in them, and a home of its own."""
    monkeypatch.setenv("VICROP_HOME", str(tmp_path / "home"))
    directory = tmp_path / "engine"
    directory.mkdir()
    for name in (*REQUIRED, *(f"{graph}.onnx.data" for graph in GRAPHS)):
        (directory / name).write_bytes(name.encode() * 9)
    files = {path.name: hash_file(path) for path in directory.iterdir()}
    write_manifest(directory, replace(MANIFEST, files=files))
    return directory


def flip_a_byte(path: Path) -> None:
    """Damage the file without changing size or time."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def edit(engine: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads((engine / "manifest.json").read_text())
    change(document)
    (engine / "manifest.json").write_text(json.dumps(document))


def test_a_whole_engine_is_read(engine: Path) -> None:
    manifest = checked_manifest(engine)
    assert manifest.model == MANIFEST.model
    assert set(manifest.files) == {path.name for path in engine.iterdir()} - {"manifest.json"}
    verify_files(engine, manifest, weights=True)


@pytest.mark.parametrize("name", REQUIRED)
def test_missing_and_cut_files(engine: Path, name: str) -> None:
    path = engine / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        EngineDamagedError, match=rf"{name} has \d+ bytes .* 'vicrop-engine build sample --force'"
    ):
        read_manifest(engine)
    path.unlink()
    with pytest.raises(
        EngineDamagedError, match=f"{name} is missing; .* 'vicrop-engine build sample --force'"
    ):
        read_manifest(engine)


@pytest.mark.parametrize("name", ["vision.onnx", "decoder_upper.onnx", "tokenizer.json", "preprocessor.json"])
def test_a_changed_byte_in_a_graph_is_found_on_every_load(engine: Path, name: str) -> None:
    checked_manifest(engine)
    flip_a_byte(engine / name)
    with pytest.raises(
        EngineDamagedError, match=f"{name}: sha256 differs from the manifest; rebuild it with"
    ):
        checked_manifest(engine)


@pytest.mark.parametrize("name", ["decoder_lower.onnx.data", "token_embeddings.npy"])
def test_a_changed_byte_in_weights_is_found_the_first_time_and_with_verify(engine: Path, name: str) -> None:
    flip_a_byte(engine / name)
    for _ in range(2):
        with pytest.raises(EngineDamagedError, match=f"{name}: sha256 differs"):
            checked_manifest(engine)
    flip_a_byte(engine / name)
    checked_manifest(engine)
    flip_a_byte(engine / name)
    checked_manifest(engine)
    with pytest.raises(EngineDamagedError, match=f"{name}: sha256 differs"):
        checked_manifest(engine, verify=True)


def test_weights_written_again_are_hashed_again(engine: Path) -> None:
    checked_manifest(engine)
    path = engine / "vision.onnx.data"
    flip_a_byte(path)
    os.utime(path, ns=(0, 0))
    with pytest.raises(EngineDamagedError, match="sha256 differs"):
        checked_manifest(engine)


def test_a_home_that_cannot_be_written_only_means_hashing_again(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VICROP_HOME", str(tmp_path / "file"))
    checked_manifest(engine)
    flip_a_byte(engine / "vision.onnx.data")
    with pytest.raises(EngineDamagedError, match="sha256 differs"):
        checked_manifest(engine)


def test_a_user_without_a_home_hashes_every_time(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("VICROP_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert cache_directory() is None
    with pytest.raises(SettingError, match="set VICROP_HOME"):
        cached_engine("llava-signs")
    assert find_engine("llava-signs") is not None, "the shipped one needs no cache"
    checked_manifest(engine)
    flip_a_byte(engine / "vision.onnx.data")
    with pytest.raises(EngineDamagedError, match="sha256 differs"):
        checked_manifest(engine)


def test_nothing_is_written_into_the_engine(engine: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [engine, *engine.iterdir()]}
    checked_manifest(engine)
    assert {path: path.stat().st_mtime_ns for path in [engine, *engine.iterdir()]} == before


def test_what_is_no_engine(tmp_path: Path) -> None:
    with pytest.raises(EngineDirectoryError, match="does not exist"):
        read_manifest(tmp_path / "none")
    with pytest.raises(EngineDirectoryError, match="not an engine directory"):
        read_manifest(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(EngineDirectoryError, match="is a file"):
        read_manifest(tmp_path / "file")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\x00"])
def test_a_manifest_that_is_no_object(engine: Path, text: str) -> None:
    (engine / "manifest.json").write_text(text)
    with pytest.raises(EngineDamagedError, match="--force"):
        read_manifest(engine)


def test_other_schemas(engine: Path) -> None:
    edit(engine, lambda document: document.update(schema=SCHEMA_VERSION + 1, surprise=1))
    with pytest.raises(
        EngineDirectoryError, match=r"schema is 4 and this version reads 3; update vicrop-engine"
    ):
        read_manifest(engine)
    edit(engine, lambda document: document.update(schema="old"))
    with pytest.raises(EngineDirectoryError, match=r"schema is 'old'.*; rebuild it"):
        read_manifest(engine)


def test_keys_that_do_not_belong(engine: Path) -> None:
    edit(engine, lambda document: document.update(precison="fp32"))
    with pytest.raises(EngineDamagedError, match=r"did you mean 'precision'.* build sample --force"):
        read_manifest(engine)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_manifest_that_leaves_a_file_out(engine: Path, name: str) -> None:
    edit(engine, lambda document: document["files"].pop(name))
    with pytest.raises(EngineDamagedError, match=f"lists no {name}"):
        read_manifest(engine)


def test_a_manifest_that_points_outside(engine: Path) -> None:
    edit(engine, lambda document: document["files"].update({"../secret": {"size": 1, "sha256": "00"}}))
    (engine.parent / "secret").write_text("x")
    with pytest.raises(EngineDamagedError, match=r"lists '\.\./secret' outside it"):
        read_manifest(engine)
