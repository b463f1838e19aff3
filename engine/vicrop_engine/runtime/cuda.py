"""Memory, copies and one stream of an NVIDIA GPU, by the driver's own library and nothing else.

libcuda comes with every driver, so running plans needs no further package. Knows bytes and addresses.
"""

from __future__ import annotations

from ctypes import byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vicrop_engine.errors import ProviderError, RunError
from vicrop_engine.runtime import nvidia

NON_BLOCKING = 1  # a stream that does not wait for the default one
MAJOR, MINOR = 75, 76  # the driver's numbers of the attributes that name an architecture
Array = npt.NDArray[Any]


class Driver(Protocol):
    """What running a plan needs of a GPU. Everything happens in order on `stream`. Raises RunError."""

    stream: int
    architecture: str

    def allocate(self, nbytes: int) -> int:
        """The address of so many bytes of device memory, holding anything."""

    def free(self, address: int) -> None:
        """Give the memory back once everything before this is done."""

    def copy_in(self, address: int, array: Array) -> None:
        """Write an array of the host to the device; the array may change afterwards."""

    def copy_out(self, array: Array, address: int) -> None:
        """Fill an array of the host from the device and wait for it."""

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy within the device."""


class CudaDriver:
    """The driver library's calls for one device."""

    def __init__(self, library: Any, device: int = 0) -> None:
        self._library = library
        self._check("cuInit", 0)
        number, self._context, stream = c_int(), c_void_p(), c_void_p()
        self._check("cuDeviceGet", byref(number), device)
        self._check("cuDevicePrimaryCtxRetain", byref(self._context), number)
        self._call("cuStreamCreate", byref(stream), NON_BLOCKING)
        self.stream = int(stream.value or 0)
        parts = c_int(), c_int()
        for part, attribute in zip(parts, (MAJOR, MINOR), strict=True):
            self._check("cuDeviceGetAttribute", byref(part), attribute, number)
        self.architecture = f"sm_{parts[0].value}{parts[1].value}"

    def allocate(self, nbytes: int) -> int:
        address = c_uint64()
        self._call("cuMemAllocAsync", byref(address), c_size_t(max(1, nbytes)), c_void_p(self.stream))
        return address.value

    def free(self, address: int) -> None:
        self._call("cuMemFreeAsync", c_uint64(address), c_void_p(self.stream))

    def copy_in(self, address: int, array: Array) -> None:
        source = np.ascontiguousarray(array)
        where = c_uint64(address), c_void_p(source.ctypes.data)
        self._copy("cuMemcpyHtoDAsync_v2", *where, source.nbytes)  # returns once it has read pageable memory

    def copy_out(self, array: Array, address: int) -> None:
        self._copy("cuMemcpyDtoHAsync_v2", c_void_p(array.ctypes.data), c_uint64(address), array.nbytes)
        self._call("cuStreamSynchronize", c_void_p(self.stream))

    def copy(self, target: int, source: int, nbytes: int) -> None:
        self._copy("cuMemcpyDtoDAsync_v2", c_uint64(target), c_uint64(source), nbytes)

    def _copy(self, name: str, target: Any, source: Any, nbytes: int) -> None:
        if nbytes:
            self._call(name, target, source, c_size_t(nbytes), c_void_p(self.stream))

    def _call(self, name: str, *arguments: Any) -> None:
        """A call in this device's context, which belongs to a thread and so is set each time."""
        self._check("cuCtxSetCurrent", self._context)
        self._check(name, *arguments)

    def _check(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            text = c_char_p()
            self._library.cuGetErrorName(status, byref(text))
            reason = (text.value or b"unknown").decode()
            raise RunError(
                f"the NVIDIA driver's {name} failed with {reason} ({status}); look at nvidia-smi for "
                "what the GPU is doing and how much memory is left"
            )


def open_driver(device: int = 0) -> CudaDriver:
    """The driver of this machine. Raises ProviderError where there is none, or no such device."""
    try:
        library = nvidia.open_library(nvidia.LIBRARY)
    except OSError as error:
        raise ProviderError(
            f"no NVIDIA driver is on this machine ({nvidia.LIBRARY} is missing) and TensorRT needs one; load "
            "the engine with provider='cpu', or build one with --target cpu"
        ) from error
    try:
        return CudaDriver(library, device)
    except RunError as error:
        raise ProviderError(f"GPU {device} cannot be used: {error}") from error


def this_gpu() -> str | None:
    """The architecture of this machine's first GPU, as sm_86; None without one."""
    try:
        return open_driver().architecture
    except ProviderError:
        return None
