"""A driver library of a test's own: two GPUs, answering the few calls that are asked of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vicrop_engine.runtime import nvidia

GPUS = (("Sample GPU A", 80 << 30, (9, 0)), ("Sample GPU B", 24 << 30, (8, 9)))
NO_DEVICE = 100


class FakeDriver:
    """Functions as in cuda.h; `cuda` is the version, `fails` makes cuInit fail, `gpus` are its devices."""

    def __init__(self, *, cuda: int = 13020, fails: int = 0, gpus: tuple[Any, ...] = GPUS) -> None:
        self.version, self.status, self.gpus = cuda, fails, gpus

    def cuInit(self, flags: int) -> int:
        return self.status

    def cuGetErrorString(self, status: int, text: Any) -> int:
        text._obj.value = b"no CUDA-capable device is detected"
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = len(self.gpus)
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: int) -> int:
        name.value = self.gpus[device][0].encode()[: size - 1]
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, device: int) -> int:
        memory._obj.value = self.gpus[device][1]
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> int:
        value._obj.value = self.gpus[device][2][attribute - nvidia.CAPABILITY_MAJOR]
        return 0


def pretend_libraries(monkeypatch: pytest.MonkeyPatch, driver: object | None, *others: str) -> None:
    """Let the loader find this driver, if any, and the libraries named, and nothing else."""

    def open_library(name: str) -> object:
        if name == nvidia.LIBRARY and driver is not None:
            return driver
        if name in others:
            return object()
        raise OSError(f"{name}: cannot open shared object file")

    opener: Callable[[str], object] = open_library
    monkeypatch.setattr(nvidia, "open_library", opener)
