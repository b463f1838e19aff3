"""Two packages of ONNX Runtime, half of one, or none: said at the first use, with what mends it."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from tests.runtime.installed import pretend_installed
from vicrop_engine import ViCropEngine, builder
from vicrop_engine.engine_dir.registry import TOOLS, find_model
from vicrop_engine.errors import ProviderError
from vicrop_engine.runtime import onnx_runtime as runtime_package
from vicrop_engine.runtime.onnx_runtime import import_problem, installed_packages, package_problem

UNINSTALL = "pip uninstall -y onnxruntime onnxruntime-gpu"


def left_over() -> ModuleType:
    """What `import onnxruntime` gives when its `__init__` is gone and a file below is not."""
    module = ModuleType("onnxruntime")
    module.__spec__ = ModuleSpec("onnxruntime", None)
    return module


def test_one_whole_package_is_no_problem() -> None:
    assert list(installed_packages()) == ["onnxruntime"]
    assert package_problem() is None


def test_two_packages_are_refused_when_the_runtime_is_first_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine_directory: Path
) -> None:
    pretend_installed(monkeypatch, tmp_path, onnxruntime_gpu="1.31.9")
    with pytest.raises(ProviderError) as caught:
        ViCropEngine.load(engine_directory)
    message = str(caught.value)
    assert "and onnxruntime-gpu 1.31.9 are both installed" in message
    for command in (UNINSTALL, "'vicrop-engine[cpu]' or 'vicrop-engine[gpu]'"):
        assert command in message
    assert "\n" not in message


def test_two_packages_are_refused_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend_installed(monkeypatch, tmp_path / "site", onnxruntime_gpu="1.31.9")
    with pytest.raises(ProviderError, match="are both installed"):
        builder.build_model(find_model("llava-signs"), tmp_path / "engine")
    with pytest.raises(ProviderError, match="are both installed"):
        builder.build_tool(TOOLS[0], tmp_path / "engine")
    assert not (tmp_path / "engine").exists()


def test_what_uninstalling_one_of_two_leaves_is_not_taken_for_a_runtime(
    monkeypatch: pytest.MonkeyPatch, engine_directory: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", left_over())
    with pytest.raises(ProviderError, match="its files are not there") as caught:
        ViCropEngine.load(engine_directory)
    assert f"'{UNINSTALL}' and then pip install 'vicrop-engine[cpu]'" in str(caught.value)


def test_a_package_without_its_module_is_said_to_be_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "its files are not there" in import_problem(ImportError("no onnxruntime"))


def test_a_package_that_does_not_import_says_why() -> None:
    message = import_problem(ImportError("libstdc++.so.6: version not found"))
    assert "cannot be imported (libstdc++.so.6: version not found)" in message
    assert UNINSTALL in message


def test_none_at_all_names_both_ways_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_package, "package_version", lambda _: None)
    assert package_problem() is None
    message = import_problem(ImportError("no onnxruntime"))
    assert "is not installed" in message
    assert "'vicrop-engine[cpu]'" in message
    assert "'vicrop-engine[gpu]'" in message
