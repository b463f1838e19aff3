"""A GPU of host memory: libcuda's calls, and TensorRT's runtime on it, which runs plans' graphs on the CPU.

It is as strict as the real ones where these are: addresses begin at multiples of 256 bytes, shapes fit the
profile chosen, and nothing is bound that is not in memory that is still there.
"""

from __future__ import annotations

import ctypes
import enum
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from vicrop_export.trt.lengths import ALIGNMENT, Lengths

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}
OUT_OF_MEMORY = 2


class FakeLibrary:
    """libcuda, as far as the engine calls it; `calls` counts by name, `failing` makes one fail."""

    def __init__(self, architecture: tuple[int, int] = (8, 6)) -> None:
        self.blocks: dict[int, tuple[Any, int]] = {}
        self.calls: dict[str, int] = {}
        self.copied_within: list[int] = []
        self.failing = ""
        self._attributes = dict(zip((75, 76), architecture, strict=True))

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("cu") and name != "cuGetErrorName":
            self.calls[name] = self.calls.get(name, 0) + 1
            if name == self.failing:
                return lambda *_: OUT_OF_MEMORY
        return super().__getattribute__(name)

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:
        device._obj.value = number
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        context._obj.value = 77
        return 0

    def cuCtxSetCurrent(self, context: Any) -> int:
        return 0 if context.value == 77 else 201

    def cuStreamCreate(self, stream: Any, flags: int) -> int:
        stream._obj.value = 99
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = self._attributes[attribute]
        return 0

    def cuMemAllocAsync(self, address: Any, nbytes: Any, stream: Any) -> int:
        memory = ctypes.create_string_buffer(b"\xff" * (nbytes.value + ALIGNMENT))  # nan, until it is written
        start = -(-ctypes.addressof(memory) // ALIGNMENT) * ALIGNMENT
        self.blocks[start] = memory, nbytes.value
        address._obj.value = start
        return 0

    def cuMemFreeAsync(self, address: Any, stream: Any) -> int:
        del self.blocks[address.value]
        return 0

    def cuMemcpyHtoDAsync_v2(self, target: Any, source: Any, nbytes: Any, stream: Any) -> int:
        return self._copy(target.value, source.value, nbytes.value, inside=[target.value])

    def cuMemcpyDtoHAsync_v2(self, target: Any, source: Any, nbytes: Any, stream: Any) -> int:
        return self._copy(target.value, source.value, nbytes.value, inside=[source.value])

    def cuMemcpyDtoDAsync_v2(self, target: Any, source: Any, nbytes: Any, stream: Any) -> int:
        self.copied_within.append(nbytes.value)
        return self._copy(target.value, source.value, nbytes.value, inside=[target.value, source.value])

    def cuStreamSynchronize(self, stream: Any) -> int:
        return 0

    def cuGetErrorName(self, status: int, text: Any) -> int:
        text._obj.value = b"CUDA_ERROR_OUT_OF_MEMORY"
        return 0

    def demand_inside(self, address: int, nbytes: int) -> None:
        """Raises AssertionError unless these bytes are in one block that was not freed."""
        assert any(
            start <= address and address + nbytes <= start + size for start, (_, size) in self.blocks.items()
        )

    def _copy(self, target: int, source: int, nbytes: int, inside: Sequence[int]) -> int:
        for address in inside:
            self.demand_inside(address, nbytes)
        ctypes.memmove(target, source, nbytes)
        return 0


class FakeTensorRT:
    """The module `tensorrt_rtx`: plans are known by their bytes and stand for the graphs they came from."""

    __name__, __version__ = "tensorrt_rtx", "0"
    TensorIOMode = enum.Enum("TensorIOMode", "INPUT OUTPUT")

    def __init__(self, library: FakeLibrary, graphs: dict[bytes, Path], profiles: Sequence[Lengths]) -> None:
        self.library, self.graphs, self.profiles = library, graphs, profiles
        self.contexts: list[FakeContext] = []

    class Logger:
        ERROR = 1

        def __init__(self, severity: int) -> None:
            self.severity = severity

    def Runtime(self, logger: Logger) -> FakeTensorRT:
        return self

    def nptype(self, dtype: Any) -> Any:
        return dtype

    def deserialize_cuda_engine(self, content: Any) -> FakeEngine | None:
        path = self.graphs.get(hashlib.sha256(content).digest())
        return None if path is None else FakeEngine(self, path)


class FakeEngine:
    """ICudaEngine: names, types and lengths of one graph."""

    def __init__(self, module: FakeTensorRT, path: Path) -> None:
        self.module = module
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {item.name: item for item in self.session.get_inputs()}
        self.tensors = self.inputs | {item.name: item for item in self.session.get_outputs()}
        self.num_io_tensors, self.num_optimization_profiles = len(self.tensors), 1
        if any(isinstance(size, str) for item in self.inputs.values() for size in item.shape):
            self.num_optimization_profiles = len(module.profiles)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self.module.TensorIOMode
        return modes.INPUT if name in self.inputs else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return TYPES[self.tensors[name].type]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(-1 if isinstance(size, str) else size for size in self.tensors[name].shape)

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        lengths = self.module.profiles[index]
        axes = [lengths.get(size, (size,) * 3) for size in self.inputs[name].shape]
        return [tuple(sizes) for sizes in zip(*axes, strict=True)]

    def create_execution_context(self) -> FakeContext:
        self.module.contexts.append(FakeContext(self))
        return self.module.contexts[-1]


class FakeContext:
    """IExecutionContext; `profiles` are those it was switched to, `pasts` the past's rows of each run."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.profile = engine, 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.profiles: list[int] = []
        self.pasts: list[int] = []
        self.fails = False

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        assert stream == 99
        self.profile = index
        self.profiles.append(index)
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.get_tensor_profile_shape(name, self.profile)
        self.shapes[name] = shape
        return all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        sizes: dict[str, int] = {}
        for known, shape in self.shapes.items():
            axes = self.engine.inputs[known].shape
            sizes |= {axis: size for axis, size in zip(axes, shape, strict=True) if isinstance(axis, str)}
        return tuple(sizes.get(axis, axis) for axis in self.engine.tensors[name].shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address % ALIGNMENT == 0

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 99
        if self.fails:
            return False
        engine = self.engine
        given = {name: self._array(name, self.shapes[name]) for name in engine.inputs}
        names = [name for name in engine.tensors if name not in engine.inputs]
        for name, value in zip(names, engine.session.run(names, given), strict=True):
            self._array(name, value.shape)[...] = value
        self.pasts += [shape[1] for name, shape in self.shapes.items() if name.endswith(".key")][:1]
        return True

    def _array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Device memory as an array."""
        dtype = np.dtype(self.engine.get_tensor_dtype(name))
        nbytes = math.prod(shape) * dtype.itemsize
        self.engine.module.library.demand_inside(self.addresses[name], nbytes)
        memory = (ctypes.c_char * nbytes).from_address(self.addresses[name])
        return np.frombuffer(memory, dtype).reshape(shape)
