"""The NVIDIA driver and its devices, asked through the driver's own library; and where CUDA's libraries are.

Imports no framework, and answers on machines that have none of it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # of CUdevice_attribute in cuda.h
NAME_BYTES = 256


@dataclass(frozen=True)
class Device:
    """One GPU: its number, name, memory in bytes and compute capability such as "9.0"."""

    index: int
    name: str
    memory: int
    capability: str


@dataclass(frozen=True)
class Driver:
    """The newest CUDA version the driver knows, as (13, 0), and its devices; or why there are none."""

    cuda: tuple[int, int] | None
    devices: tuple[Device, ...]
    problem: str | None = None


def find_driver() -> Driver:
    """Ask the driver, if there is one; CUDA_VISIBLE_DEVICES counts, as it does for whoever runs on them."""
    try:
        library = open_library(LIBRARY)
    except OSError:
        return Driver(None, (), f"no NVIDIA driver: {LIBRARY} is missing")
    try:
        return _ask(library)
    except (AttributeError, _CallError) as error:
        return Driver(None, (), f"the NVIDIA driver does not answer ({error})")


def open_library(name: str) -> Any:
    """A shared library by name. Raises OSError when there is none."""
    return ctypes.CDLL(name)


def missing_libraries(names: Iterable[str]) -> list[str]:
    """Those of the libraries that neither NVIDIA's Python packages nor the system's loader has."""
    packaged = {path.name for folder in sys.path for path in Path(folder).glob("nvidia/*/lib/*.so.*")}
    return [name for name in names if name not in packaged and not _loads(name)]


def _loads(name: str) -> bool:
    try:
        open_library(name)
    except OSError:
        return False
    return True


class _CallError(Exception):
    """A call into the driver that did not give success."""


def _ask(library: Any) -> Driver:
    _call(library, "cuInit", 0)
    version = _number(library, "cuDriverGetVersion")
    devices = tuple(_device(library, index) for index in range(_number(library, "cuDeviceGetCount")))
    cuda = version // 1000, version % 1000 // 10
    return Driver(cuda, devices, None if devices else "the NVIDIA driver has no device for this process")


def _device(library: Any, index: int) -> Device:
    handle = _number(library, "cuDeviceGet", index)
    name = ctypes.create_string_buffer(NAME_BYTES)
    _call(library, "cuDeviceGetName", name, NAME_BYTES, handle)
    memory = ctypes.c_size_t()
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    capability = [
        _number(library, "cuDeviceGetAttribute", attribute, handle)
        for attribute in (CAPABILITY_MAJOR, CAPABILITY_MINOR)
    ]
    text = name.value.decode("utf-8", "replace")
    return Device(index, text, memory.value, ".".join(map(str, capability)))


def _number(library: Any, function: str, *arguments: int) -> int:
    """What the function writes into its first argument."""
    value = ctypes.c_int()
    _call(library, function, ctypes.byref(value), *arguments)
    return value.value


def _call(library: Any, function: str, *arguments: Any) -> None:
    status = int(getattr(library, function)(*arguments))
    if status != 0:
        raise _CallError(f"{function} gives error {status}{_reason(library, status)}")


def _reason(library: Any, status: int) -> str:
    text = ctypes.c_char_p()
    try:
        library.cuGetErrorString(status, ctypes.byref(text))
    except AttributeError:
        return ""
    return f", {text.value.decode('utf-8', 'replace')}" if text.value else ""
