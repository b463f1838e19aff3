"""Opening an engine: graphs that do not open, providers that are missing or fall back, wrong tables."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

from vicrop_engine import ViCropEngine
from vicrop_engine.engine_dir.files import hash_file
from vicrop_engine.engine_dir.manifest import Manifest, read_manifest, write_manifest
from vicrop_engine.errors import EngineDamagedError, EngineDirectoryError, ProviderError, RunError
from vicrop_engine.runtime import graphs as backend
from vicrop_engine.runtime import onnx_runtime as runtime_package


@pytest.fixture
def copy(engine_directory: Path, tmp_path: Path) -> Path:
    """A copy of the engine that may be spoilt."""
    return Path(shutil.copytree(engine_directory, tmp_path / "copy"))


def agree(engine: Path, name: str) -> None:
    """Make the manifest agree with a file that was changed."""
    manifest = Manifest.from_dict(json.loads((engine / "manifest.json").read_text()))
    write_manifest(engine, replace(manifest, files={**manifest.files, name: hash_file(engine / name)}))


def test_provider_and_manifest_are_told(engine: ViCropEngine) -> None:
    assert engine.provider == "CPUExecutionProvider"
    assert engine.manifest.model.name == "llava-signs"


@pytest.mark.parametrize("name", ["vision", "decoder_lower", "decoder_upper"])
def test_a_graph_that_is_no_graph(copy: Path, name: str) -> None:
    (copy / f"{name}.onnx").write_bytes(b"not a graph")
    agree(copy, f"{name}.onnx")
    with pytest.raises(
        EngineDamagedError, match=rf"{name}\.onnx cannot be opened .* build llava-signs --force"
    ):
        ViCropEngine.load(copy)


def test_a_table_of_another_shape(copy: Path) -> None:
    np.save(copy / "token_embeddings.npy", np.zeros((5, 64), np.float32))
    agree(copy, "token_embeddings.npy")
    with pytest.raises(EngineDamagedError, match=r"float32 \(5, 64\), wanted float32 or float16 \(454, 64\)"):
        ViCropEngine.load(copy)


def test_a_table_that_is_none(copy: Path) -> None:
    (copy / "token_embeddings.npy").write_bytes(b"nothing")
    agree(copy, "token_embeddings.npy")
    with pytest.raises(EngineDamagedError, match="cannot be read"):
        ViCropEngine.load(copy)


def test_a_damaged_weight_file(copy: Path) -> None:
    path = copy / "decoder_lower.onnx.data"
    data = bytearray(path.read_bytes())
    data[100] ^= 255
    path.write_bytes(bytes(data))
    with pytest.raises(EngineDamagedError, match=r"decoder_lower\.onnx\.data: sha256 differs"):
        ViCropEngine.load(copy)


def test_read_only_engines_open(copy: Path) -> None:
    for path in [*copy.iterdir(), copy]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert ViCropEngine.load(copy).manifest.target == "cpu"
    finally:
        copy.chmod(0o755)


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(EngineDirectoryError, match="does not exist"):
        ViCropEngine.load(tmp_path / "none")
    with pytest.raises(EngineDirectoryError, match="not an engine"):
        ViCropEngine.load(tmp_path)


def test_a_run_that_fails_says_which_graph(engine_directory: Path) -> None:
    graphs = backend.open_graphs(engine_directory, read_manifest(engine_directory))
    with pytest.raises(RunError, match="vision failed while running") as caught:
        graphs.vision.run({"pixel_values": np.zeros((1, 3, 5, 5), np.float32)})
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)


def test_an_engine_for_another_target(engine_directory: Path) -> None:
    manifest = replace(read_manifest(engine_directory), target="cuda")
    with pytest.raises(ProviderError, match="the engine is for 'cuda' and this version runs cpu"):
        backend.open_graphs(engine_directory, manifest)


def test_a_silent_fall_back_is_an_error(
    engine_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime gives a CPU session without a word when the provider asked for does not work."""
    monkeypatch.setitem(backend.PROVIDERS, "cpu", "CUDAExecutionProvider")
    session = SimpleNamespace(
        get_providers=lambda: ["CPUExecutionProvider"], get_inputs=lambda: [], get_outputs=lambda: []
    )
    loaded: list[str] = []

    def preload() -> None:
        loaded.append("CUDA")
        print("Failed to load libcudnn.so.9")

    runtime = Mock(preload_dlls=preload)
    monkeypatch.setattr(backend, "installed_runtime", lambda: runtime)
    monkeypatch.setattr(backend, "open_session", lambda *_, **__: session)
    with pytest.raises(ProviderError, match="was to run on CUDAExecutionProvider and got"):
        backend.open_graphs(engine_directory, read_manifest(engine_directory))
    assert loaded == ["CUDA"]
    assert capsys.readouterr().out == ""


def test_without_onnx_runtime(engine_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(runtime_package, "package_version", lambda _: None)
    with pytest.raises(ProviderError, match=r"is not installed; run pip install 'vicrop-engine\[cpu\]'"):
        ViCropEngine.load(engine_directory)


def test_importing_is_quick_and_asking_for_the_class_loads_no_runtime() -> None:
    """Heavy parts stay out until an engine is opened: numpy at the package, onnxruntime at the class."""
    program = (
        "import sys, vicrop_engine; early = 'numpy' in sys.modules or 'PIL' in sys.modules; "
        "vicrop_engine.ViCropEngine; print(early, 'onnxruntime' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False"]
