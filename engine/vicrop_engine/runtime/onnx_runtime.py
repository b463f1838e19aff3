"""ONNX Runtime as it is installed here: the module, its providers, its tensors. Opens no graphs."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from vicrop_engine.errors import ProviderError


def installed_runtime() -> Any:
    """The module. Raises ProviderError without a sound one."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ProviderError(import_problem(error)) from error
    return sound(onnxruntime)


def available_providers() -> list[str]:
    """The execution providers compiled into ONNX Runtime here. Raises ProviderError without a sound one."""
    return list(installed_runtime().get_available_providers())


def tensor_class() -> Any:
    """The runtime's class of tensors. Raises ProviderError without ONNX Runtime."""
    return installed_runtime().OrtValue


EXTRAS = {"onnxruntime": "cpu", "onnxruntime-gpu": "gpu"}

MODULE = "onnxruntime"

UNINSTALL = f"pip uninstall -y {' '.join(EXTRAS)}"


def installed_packages() -> dict[str, str]:
    """Version by name of the packages of ONNX Runtime that pip knows of."""
    found = {name: package_version(name) for name in EXTRAS}
    return {name: version for name, version in found.items() if version is not None}


def package_version(package: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def sound(runtime: Any) -> Any:
    """The imported runtime, once its package was looked at. Raises ProviderError as `demand_one_package`."""
    demand_one_package()
    return runtime


@cache
def load_cuda_libraries(runtime: Any) -> None:
    """Load CUDA and cuDNN from NVIDIA's Python packages, where the system's loader does not look for them.

    What is missing is found out by the session; the runtime would print it on standard output.
    """
    with redirect_stdout(io.StringIO()):
        runtime.preload_dlls()


def demand_one_package() -> None:
    """Raise ProviderError when two packages of ONNX Runtime are installed, or half of one."""
    problem = package_problem()
    if problem is not None:
        raise ProviderError(problem)


def package_problem() -> str | None:
    """Why ONNX Runtime as installed cannot be relied on, with the commands that mend it; None when it can.

    Nothing installed is no such problem: importing it says so.
    """
    found = installed_packages()
    names = " and ".join(f"{name} {version}" for name, version in found.items())
    if len(found) > 1:
        choices = " or ".join(f"'vicrop-engine[{extra}]'" for extra in EXTRAS.values())
        return (
            f"{names} are both installed and overwrite each other's files, wanted one of them; run "
            f"'{UNINSTALL}' and then pip install {choices}, for uninstalling one alone breaks the other"
        )
    if found and not _has_files():
        (name,) = found
        return (
            f"{names} is installed and its files are not there, as after uninstalling one of two packages "
            f"that share them; run '{UNINSTALL}' and then {install(name)}"
        )
    return None


def import_problem(error: ImportError) -> str:
    """What an import of ONNX Runtime that failed with `error` means, and the command that mends it."""
    problem = package_problem()
    if problem is not None:
        return problem
    found = installed_packages()
    if not found:
        return (
            f"ONNX Runtime is not installed; run {install('onnxruntime')} to have it, or on an NVIDIA GPU "
            f"{install('onnxruntime-gpu')}"
        )
    ((name, version),) = found.items()
    return (
        f"{name} {version} is installed and cannot be imported ({error}); run '{UNINSTALL}' and then "
        f"{install(name)}"
    )


def install(package: str) -> str:
    """The command that installs this package of ONNX Runtime in a version that fits."""
    return f"pip install 'vicrop-engine[{EXTRAS[package]}]'"


def _has_files() -> bool:
    """Whether the module has an __init__: what is left of a damaged package imports, and has no attribute."""
    try:
        spec = find_spec(MODULE)
    except ValueError:  # imported already, and without saying from where
        return True
    return spec is not None and spec.origin is not None
