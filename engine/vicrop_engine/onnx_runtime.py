"""ONNX Runtime as it is installed here: the module, its providers, its tensors. Opens no graphs."""

from __future__ import annotations

from typing import Any

from vicrop_engine.errors import ProviderError
from vicrop_engine.runtime_package import import_problem, sound


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
