"""What this machine can run, and of the rest why not: packages, execution providers, driver, libraries.

ONNX Runtime lists the providers it was built with, not those that work: the driver and the libraries they
load are looked for as well. Opens no graphs and loads no framework.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from vicrop_engine.errors import ProviderError
from vicrop_engine.runtime import nvidia
from vicrop_engine.runtime import onnx_runtime as runtime_package
from vicrop_engine.runtime.nvidia import Driver
from vicrop_engine.runtime.onnx_runtime import available_providers, package_version

CUDA_PROVIDER = "CUDAExecutionProvider"
OLDEST_CUDA = (13, 0)
CUDA_LIBRARIES = (
    *("libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcufft.so.12", "libcurand.so.10"),
    *("libnvrtc.so.13", "libcudnn.so.9"),
)
"""What the CUDA provider of ONNX Runtime 1.31 is linked against or opens (readelf, and its extras)."""
TENSORRT_PACKAGES = ("tensorrt-cu13", "tensorrt")
TENSORRT_VERSIONS = ((10, 13), (11,))  # from, below


@dataclass(frozen=True)
class Ability:
    """Whether this machine can run something, and in words what with or why not."""

    able: bool
    reason: str


def abilities(driver: Driver) -> dict[str, Ability]:
    """By name: the engines' targets, building TensorRT-RTX plans ahead of time, and the Triton kernels."""
    return {
        "cpu": _cpu(),
        "cuda": _cuda(driver),
        "tensorrt": _tensorrt(driver),
        "tensorrt-rtx": _tensorrt_rtx(),
        "triton": _triton(driver),
    }


def _cpu() -> Ability:
    problem = _runtime_problem()
    return Ability(problem is None, problem or _runtime_name())


def _cuda(driver: Driver) -> Ability:
    problem = _runtime_problem()
    if problem is None and CUDA_PROVIDER not in available_providers():
        problem = (
            f"{_runtime_name()} has no {CUDA_PROVIDER}; run '{runtime_package.UNINSTALL}' and then "
            f"{runtime_package.install('onnxruntime-gpu')}"
        )
    missing = [] if problem else nvidia.missing_libraries(_library_names())
    if missing:
        install = runtime_package.install("onnxruntime-gpu")
        problem = f"missing CUDA or cuDNN libraries: {', '.join(missing)}; run {install}"
    return _judged([problem, _driver_problem(driver)], _runtime_name)


def _tensorrt(driver: Driver) -> Ability:
    found = _first_version(TENSORRT_PACKAGES)
    problem = None
    if found is None or find_spec("tensorrt") is None:
        problem = "TensorRT is not installed; run pip install 'vicrop-engine[tensorrt]'"
    elif not TENSORRT_VERSIONS[0] <= _numbers(found) < TENSORRT_VERSIONS[1]:
        problem = (
            f"tensorrt is {found}, wanted 10.13 or later below 11; run pip install 'vicrop-engine[tensorrt]'"
        )
    return _judged([problem, _driver_problem(driver)], lambda: f"tensorrt {found}")


def _tensorrt_rtx() -> Ability:
    found = package_version("tensorrt-rtx")
    if found is None or find_spec("tensorrt_rtx") is None:
        return Ability(False, "TensorRT-RTX is not installed; run pip install 'vicrop-engine[rtx]'")
    return Ability(True, f"tensorrt-rtx {found} builds plans ahead of time, with or without a GPU")


def _triton(driver: Driver) -> Ability:
    found = package_version("triton")
    problem = None
    if found is None or find_spec("triton") is None:
        problem = "Triton is not installed; run pip install 'vicrop-engine[triton]'"
    elif not any(map(shutil.which, ("gcc", "clang"))):
        problem = "no C compiler, which Triton makes its launcher with; install gcc and Python's headers"
    return _judged([problem, _torch_problem(), _driver_problem(driver)], lambda: f"triton {found}")


def _torch_problem() -> str | None:
    found = package_version("torch")
    if found is None:
        return "the kernel takes tensors of torch, which is not installed; run pip install torch"
    if found.endswith("+cpu"):
        return f"torch {found} is built for processors alone; install one built for CUDA 13"
    return None


def _judged(problems: Iterable[str | None], works_with: Callable[[], str]) -> Ability:
    found = [problem for problem in problems if problem is not None]
    return Ability(not found, "; ".join(found) or works_with())


def _runtime_problem() -> str | None:
    try:
        available_providers()
    except ProviderError as error:
        return str(error)
    return None


def _runtime_name() -> str:
    found = runtime_package.installed_packages()
    return ", ".join(f"{name} {version}" for name, version in found.items()) or "ONNX Runtime"


def _driver_problem(driver: Driver) -> str | None:
    if driver.cuda is not None and driver.cuda < OLDEST_CUDA:
        known, wanted = (".".join(map(str, version)) for version in (driver.cuda, OLDEST_CUDA))
        return f"the NVIDIA driver knows CUDA up to {known}, wanted {wanted}; update the driver"
    return driver.problem


def _library_names() -> tuple[str, ...]:
    return () if sys.platform == "win32" else CUDA_LIBRARIES


def _first_version(packages: Iterable[str]) -> str | None:
    return next((found for name in packages if (found := package_version(name)) is not None), None)


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: (10, 13) of 10.13.3.9."""
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts if part.isdigit())
