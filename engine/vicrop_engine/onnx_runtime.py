"""ONNX Runtime as it is installed here: the module, its providers, its tensors. Opens no graphs."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from functools import cache
from typing import Any

from vicrop_engine.errors import ProviderError
from vicrop_engine.runtime_package import demand_one_package, import_problem


def installed_runtime() -> Any:
    """The module. Raises ProviderError without a sound one."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ProviderError(import_problem(error)) from error
    return _sound(onnxruntime)


def available_providers() -> list[str]:
    """The execution providers compiled into ONNX Runtime here. Raises ProviderError without a sound one."""
    return list(installed_runtime().get_available_providers())


def tensor_class() -> Any:
    """The runtime's class of tensors. Raises ProviderError without ONNX Runtime."""
    return installed_runtime().OrtValue


@cache
def load_cuda_libraries(runtime: Any) -> None:
    """Load CUDA and cuDNN from NVIDIA's Python packages, where the system's loader does not look for them.

    What is missing is found out by the session; the runtime would print it on standard output.
    """
    with redirect_stdout(io.StringIO()):
        runtime.preload_dlls()


@cache
def _sound(runtime: Any) -> Any:
    demand_one_package()
    return runtime
