"""What a machine can run and why not the rest: every reason, on machines that tests make up."""

from __future__ import annotations

import shutil
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from tests.runtime.fake_driver import FakeDriver, pretend_libraries
from tests.runtime.installed import pretend_installed
from vicrop_engine.runtime import machine
from vicrop_engine.runtime import onnx_runtime as runtime_package
from vicrop_engine.runtime.machine import CUDA_LIBRARIES, CUDA_PROVIDER, Ability, abilities
from vicrop_engine.runtime.nvidia import find_driver


@pytest.fixture
def _gpu_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package for GPUs in place of the one that is installed."""
    monkeypatch.setattr(machine, "available_providers", lambda: [CUDA_PROVIDER, "CPUExecutionProvider"])
    monkeypatch.setattr(runtime_package, "installed_packages", lambda: {"onnxruntime-gpu": "1.31.1"})


def judged(name: str) -> Ability:
    return abilities(find_driver())[name]


def test_the_cpu_package_runs_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_libraries(monkeypatch, FakeDriver(), *CUDA_LIBRARIES)
    assert judged("cpu") == Ability(True, f"onnxruntime {runtime_package.package_version('onnxruntime')}")
    cuda = judged("cuda")
    assert not cuda.able
    assert "has no CUDAExecutionProvider" in cuda.reason
    assert "pip install 'vicrop-engine[gpu]'" in cuda.reason


@pytest.mark.usefixtures("_gpu_package")
def test_what_is_built_in_does_not_work_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_libraries(monkeypatch, None, *CUDA_LIBRARIES)
    assert judged("cuda") == Ability(False, "no NVIDIA driver: libcuda.so.1 is missing")
    assert judged("cpu") == Ability(True, "onnxruntime-gpu 1.31.1")


@pytest.mark.usefixtures("_gpu_package")
def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_libraries(monkeypatch, FakeDriver(), *CUDA_LIBRARIES[:-2])
    cuda = judged("cuda")
    assert not cuda.able
    assert f"missing CUDA or cuDNN libraries: {', '.join(CUDA_LIBRARIES[-2:])}; run" in cuda.reason


@pytest.mark.usefixtures("_gpu_package")
def test_an_old_driver_is_told_from_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_libraries(monkeypatch, FakeDriver(cuda=12080), *CUDA_LIBRARIES)
    assert "knows CUDA up to 12.8, wanted 13.0; update the driver" in judged("cuda").reason


@pytest.mark.usefixtures("_gpu_package")
def test_a_whole_gpu_machine_runs_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_libraries(monkeypatch, FakeDriver(), *CUDA_LIBRARIES)
    assert judged("cuda") == Ability(True, "onnxruntime-gpu 1.31.1")


def test_two_packages_run_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_installed(monkeypatch, tmp_path, onnxruntime_gpu="1.31.9")
    pretend_libraries(monkeypatch, FakeDriver(), *CUDA_LIBRARIES)
    for name in ("cpu", "cuda"):
        assert not judged(name).able
        assert "are both installed" in judged(name).reason


@pytest.mark.parametrize(("version", "able"), [("10.13.3.9", True), ("10.9.0", False), ("11.4.0.106", False)])
def test_tensorrt_wants_the_version_that_fits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, able: bool
) -> None:
    pretend_installed(monkeypatch, tmp_path, tensorrt_cu13=version)
    monkeypatch.setattr(machine, "find_spec", lambda name: ModuleSpec(name, None))
    pretend_libraries(monkeypatch, FakeDriver())
    found = judged("tensorrt")
    assert found.able is able
    assert version in found.reason


def test_plans_for_rtx_are_built_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_libraries(monkeypatch, None)
    monkeypatch.setattr(machine, "package_version", lambda name: "1.7.1" if name == "tensorrt-rtx" else None)
    monkeypatch.setattr(machine, "find_spec", lambda name: ModuleSpec(name, None))
    assert judged("tensorrt-rtx").able
    assert judged("tensorrt-rtx").reason.startswith("tensorrt-rtx 1.7.1 builds plans")
    assert "not installed" in judged("tensorrt").reason


@pytest.mark.parametrize(
    ("torch", "said"),
    [(None, "run pip install torch"), ("2.15.0+cpu", "torch 2.15.0+cpu is built for processors alone")],
)
def test_triton_wants_a_torch_for_gpus(monkeypatch: pytest.MonkeyPatch, torch: str | None, said: str) -> None:
    monkeypatch.setattr(machine, "package_version", {"triton": "3.9.0", "torch": torch}.get)
    monkeypatch.setattr(machine, "find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    pretend_libraries(monkeypatch, FakeDriver())
    assert not judged("triton").able
    assert said in judged("triton").reason


def test_triton_wants_a_driver_and_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "package_version", {"triton": "3.9.0", "torch": "2.15.0"}.get)
    monkeypatch.setattr(machine, "find_spec", lambda name: ModuleSpec(name, None))
    pretend_libraries(monkeypatch, FakeDriver())
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert judged("triton") == Ability(True, "triton 3.9.0")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "no C compiler" in judged("triton").reason
    monkeypatch.setattr(machine, "package_version", lambda _: None)
    pretend_libraries(monkeypatch, None)
    reason = judged("triton").reason
    assert "'vicrop-engine[triton]'" in reason
    assert "no NVIDIA driver" in reason


def test_nothing_is_loaded_to_find_out() -> None:
    before = set(sys.modules)
    abilities(find_driver())
    assert not {"torch", "triton", "tensorrt", "tensorrt_rtx"} & (set(sys.modules) - before)
