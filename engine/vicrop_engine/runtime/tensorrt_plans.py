"""Runs compiled TensorRT plans: the only file that makes TensorRT's runtime and contexts.

The plans are those of the `tensorrt` target's graphs, and a decoder's keys and values are written in place:
the past is bound at a buffer's start and the new tokens right after it. Not yet run on a GPU.
"""

from __future__ import annotations

import importlib
import math
import mmap
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from vicrop_engine.engine_dir.manifest import GRAPHS, Manifest, Plans, plan_file, remedy_command
from vicrop_engine.errors import EngineDamagedError, ProviderError, RunError
from vicrop_engine.runtime.appending_graph import BIAS, RepeatedRun
from vicrop_engine.runtime.cuda import Driver, open_driver
from vicrop_engine.runtime.interfaces import PAST, PRESENT, BoundGraph, Feed, Tensor

EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}  # what to install for a compiler's module
Array = npt.NDArray[Any]
Shape = tuple[int, ...]


class Region(NamedTuple):
    """Some device memory seen as an array of this shape."""

    address: int
    shape: Shape


@dataclass(frozen=True)
class DeviceTensor:
    """Device memory of its own, given back when the tensor goes."""

    driver: Driver
    address: int
    shape: Shape
    dtype: np.dtype[Any]

    def __post_init__(self) -> None:
        weakref.finalize(self, self.driver.free, self.address).atexit = False

    @classmethod
    def empty(cls, driver: Driver, shape: Shape, dtype: np.dtype[Any]) -> DeviceTensor:
        """Room for an array, holding anything."""
        return cls(driver, driver.allocate(math.prod(shape) * dtype.itemsize), shape, dtype)

    def numpy(self) -> Array:
        """A copy of its values on the host."""
        array = np.empty(self.shape, self.dtype)
        self.driver.copy_out(array, self.address)
        return array

    def tensor_size_in_bytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * self.dtype.itemsize

    def rows(self, start: int, stop: int) -> Region:
        """Rows of the second axis, where the first has one."""
        row = math.prod(self.shape[2:]) * self.dtype.itemsize
        return Region(self.address + start * row, (1, stop - start, *self.shape[2:]))


class PlanGraph:
    """One plan on one GPU; `inputs` and `outputs` are its names in order."""

    takes_answers: ClassVar[bool] = False  # one place for logits, as in all graphs of standard operators

    def __init__(self, name: str, module: Any, engine: Any, driver: Driver) -> None:
        self.name, self.driver = name, driver
        self._engine, self._context, self._profile = engine, engine.create_execution_context(), 0
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        taken = [engine.get_tensor_mode(name) == module.TensorIOMode.INPUT for name in names]
        self.inputs = tuple(name for name, goes_in in zip(names, taken, strict=True) if goes_in)
        self.outputs = tuple(name for name, goes_in in zip(names, taken, strict=True) if not goes_in)
        self._dtypes = {name: np.dtype(module.nptype(engine.get_tensor_dtype(name))) for name in names}

    def run(self, feeds: Mapping[str, Feed]) -> dict[str, Tensor]:
        """All outputs by name, on the device. Feeds the graph lacks are left out. Raises RunError."""
        return self.launch({name: self.tensor(feeds[name]) for name in self.inputs}, {})

    def bound(self, capacity: int) -> BoundPlan:
        """This graph with KV buffers for `capacity` tokens, which hold anything."""
        buffers = {}
        for name in self.inputs:
            if name.startswith(PAST):
                shape = (1, capacity, *tuple(self._engine.get_tensor_shape(name))[2:])
                buffers[name] = DeviceTensor.empty(self.driver, shape, self._dtypes[name])
        return BoundPlan(self, buffers)

    def tensor(self, feed: Feed) -> DeviceTensor:
        """The feed on the device; a tensor that is there already is returned as it is."""
        if isinstance(feed, DeviceTensor):
            return feed
        array = feed if isinstance(feed, np.ndarray) else feed.numpy()
        made = DeviceTensor.empty(self.driver, array.shape, array.dtype)
        self.driver.copy_in(made.address, array)
        return made

    def launch(
        self, given: Mapping[str, DeviceTensor | Region], placed: Mapping[str, Region]
    ) -> dict[str, Tensor]:
        """Run on these inputs; outputs that are not `placed` get memory of their own. Raises RunError."""
        context = self._context
        self._choose_profile({name: value.shape for name, value in given.items()})
        done = [context.set_input_shape(name, value.shape) for name, value in given.items()]
        fresh: dict[str, Tensor] = {}
        addresses = {name: value.address for name, value in (*given.items(), *placed.items())}
        for name in self.outputs:
            if name not in placed:
                shape = tuple(context.get_tensor_shape(name))
                made = DeviceTensor.empty(self.driver, shape, self._dtypes[name])
                fresh[name], addresses[name] = made, made.address
        done += [context.set_tensor_address(name, address) for name, address in addresses.items()]
        if not (all(done) and context.execute_async_v3(self.driver.stream)):
            raise RunError(
                f"{self.name} failed while running on the GPU; look for TensorRT's own message above"
            )
        return fresh

    def _choose_profile(self, shapes: Mapping[str, Shape]) -> None:
        """Switch to the first of the plan's lengths that these shapes fit."""
        for index in range(self._engine.num_optimization_profiles):
            if all(self._fits(index, name, shape) for name, shape in shapes.items()):
                if index != self._profile:
                    self._context.set_optimization_profile_async(index, self.driver.stream)
                    self._profile = index
                return
        asked = ", ".join(f"{name} {shape}" for name, shape in shapes.items() if not name.startswith(PAST))
        raise RunError(f"{self.name} was compiled for shorter lengths than {asked}; ask a shorter question")

    def _fits(self, profile: int, name: str, shape: Shape) -> bool:
        least, _, most = (tuple(dims) for dims in self._engine.get_tensor_profile_shape(name, profile))
        return all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True))


@dataclass(frozen=True)
class BoundPlan:
    """A decoder's plan with KV buffers [1, capacity, kv_heads, head_dim] on the device, by input name."""

    graph: PlanGraph
    buffers: dict[str, DeviceTensor]

    def run(self, feeds: Mapping[str, Feed]) -> dict[str, Tensor]:
        """The other outputs by name; the new tokens' keys and values are written into the buffers."""
        graph = self.graph
        given: dict[str, DeviceTensor | Region] = {
            name: graph.tensor(feeds[name]) for name in graph.inputs if name not in self.buffers
        }
        if not self.buffers:
            return graph.launch(given, {})
        new, total = given[BIAS].shape[2:]
        given |= {name: buffer.rows(0, total - new) for name, buffer in self.buffers.items()}
        placed = {
            name.replace(PAST, PRESENT, 1): b.rows(total - new, total) for name, b in self.buffers.items()
        }
        return graph.launch(given, placed)

    def step(self, feeds: Mapping[str, Feed]) -> RepeatedRun:
        """Runs of one shape from and into these, by name; arrays are filled in place between runs."""
        return RepeatedRun(self, feeds)

    def take(self, source: BoundGraph, length: int) -> None:
        """Copy the first `length` tokens of another one's buffers, within the device."""
        for name, buffer in self.buffers.items():
            other = source.buffers[name]
            assert isinstance(other, DeviceTensor), "both are of one graph"
            row = math.prod(buffer.shape[2:]) * buffer.dtype.itemsize
            self.graph.driver.copy(buffer.address, other.address, length * row)


def open_plans(directory: Path, manifest: Manifest, device: int = 0) -> Sequence[PlanGraph]:
    """The plans of GRAPHS, in that order, on this machine's GPU number `device`.

    Raises ProviderError without driver, TensorRT or plans for this GPU, EngineDamagedError for what TensorRT
    cannot read.
    """
    plans = manifest.plans
    if plans is None:
        raise ProviderError("the engine has no TensorRT plans; rebuild it, or load it with provider='cpu'")
    driver = open_driver(device)
    module = tensorrt_module(plans)
    if driver.architecture not in plans.architectures:
        known = ", ".join(plans.architectures)
        raise ProviderError(
            f"this GPU is {driver.architecture} and the engine has plans for {known}; rebuild it with "
            f"--arch {driver.architecture}, or load it with provider='cpu'"
        )
    return [_open(directory, name, manifest, module, driver) for name in GRAPHS]


def tensorrt_module(plans: Plans) -> Any:
    """The Python package that compiled these plans. Raises ProviderError when it is not installed."""
    try:
        return importlib.import_module(plans.compiler)
    except ImportError as error:
        raise ProviderError(
            f"the engine's plans are {plans.compiler}'s ({plans.version}), which is not installed here; run "
            f"pip install 'vicrop-engine[{EXTRAS[plans.compiler]}]'"
        ) from error


@cache
def _runtime(module: Any) -> Any:
    return module.Runtime(module.Logger(module.Logger.ERROR))


def _open(directory: Path, name: str, manifest: Manifest, module: Any, driver: Driver) -> PlanGraph:
    path = directory / plan_file(name, driver.architecture)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        engine = _runtime(module).deserialize_cuda_engine(content)
    if engine is None:
        raise EngineDamagedError(
            f"{path} cannot be read by {module.__name__} {module.__version__}; {remedy_command(manifest)}"
        )
    return PlanGraph(name, module, engine, driver)
