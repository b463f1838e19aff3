"""ONNX Runtime, and the only file that knows it: opens graphs, checks where they really run, runs them.

Decoder graphs run bound to KV buffers that they read and write in place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vicrop_engine.errors import EngineDamagedError, ProviderError, RunError
from vicrop_engine.kv_cache import Tensor
from vicrop_engine.manifest import GRADIENT, GRAPHS, PIXEL_GRADIENTS, Manifest, mend_command
from vicrop_engine.runtime_package import import_problem, load_cuda_libraries, sound
from vicrop_engine.shared_weights import made_at_once, shared_directory

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
TARGETS = ("cpu",)  # of `open_graphs`; those for a device are opened by `device_graph`
PACKING = {
    "optimized_model_external_initializers_file_name": "{name}.onnx.data",
    "optimized_model_external_initializers_min_size_in_bytes": "1024",
    "save_external_prepacked_constant_initializers": "1",
}
PAST, PRESENT = "past_key_values.", "present."
Feed = npt.NDArray[Any] | Tensor


@dataclass(frozen=True)
class Graph:
    """One open graph; `inputs` and `outputs` are its names in order, `options` the runtime's for each run."""

    name: str
    session: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Any = None

    def run(self, feeds: Mapping[str, Feed]) -> dict[str, Tensor]:
        """All outputs by name. Arrays and tensors may be mixed; feeds the graph lacks are left out.

        Raises RunError with the runtime's own reason.
        """
        values = {name: self.tensor(feeds[name]) for name in self.inputs}
        try:
            results = self.session.run_with_ort_values(list(self.outputs), values, self.options)
        except Exception as error:
            raise self.failure(error) from error
        return dict(zip(self.outputs, results, strict=True))

    @property
    def takes_answers(self) -> bool:
        """Whether it gives the logits of as many tokens as asked for."""
        shapes = {item.name: item.shape for item in self.session.get_inputs()}
        return isinstance(shapes.get("answer_position", [1])[0], str)

    def bound(self, capacity: int) -> BoundGraph:
        """This graph with zeroed KV buffers for `capacity` tokens; memory is taken as they are filled."""
        shapes = {item.name: item.shape for item in self.session.get_inputs() if item.name.startswith(PAST)}
        buffers = {
            name: self.tensor(np.zeros((shape[0], shape[1], capacity, shape[3]), np.float32))
            for name, shape in shapes.items()
        }
        return BoundGraph(self, buffers, self.session.io_binding())

    def failure(self, error: Exception) -> RunError:
        """The runtime's error in one sentence."""
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return RunError(f"{self.name} failed while running ({reason}); check memory and the engine")

    @staticmethod
    def tensor(feed: Feed) -> Tensor:
        """The feed as a tensor of the runtime; a tensor is returned as it is."""
        if isinstance(feed, np.ndarray):
            value: Tensor = _runtime().OrtValue.ortvalue_from_numpy(feed)
            return value
        return feed

    @staticmethod
    def wrapped(value: Any) -> Tensor:
        """The runtime's own tensor as those that its sessions give."""
        tensor: Tensor = _runtime().OrtValue(value)
        return tensor


@dataclass(frozen=True)
class BoundGraph:
    """A graph whose past and present keys and values are the same buffers, by input name."""

    graph: Graph
    buffers: dict[str, Tensor]
    binding: Any

    def __post_init__(self) -> None:
        for name, buffer in self.buffers.items():
            self.binding.bind_ortvalue_input(name, buffer)
        for name in self.graph.outputs:
            if name.startswith(PRESENT):
                self.binding.bind_ortvalue_output(name, self.buffers[name.replace(PRESENT, PAST, 1)])
            else:
                self.binding.bind_output(name, "cpu")

    def run(self, feeds: Mapping[str, Feed]) -> dict[str, Tensor]:
        """All outputs but keys and values by name; those are written into the buffers.

        Feeds the graph lacks are left out. Raises RunError with the runtime's own reason.
        """
        values = {name: self.graph.tensor(feeds[name]) for name in self.fed}
        try:
            for name, value in values.items():
                self.binding.bind_ortvalue_input(name, value)
            for name in self.fresh:
                self.binding.bind_output(name, "cpu")
            self.graph.session.run_with_iobinding(self.binding)
        except Exception as error:
            raise self.graph.failure(error) from error
        results = self.binding.get_outputs_as_ortvaluevector()
        return {name: self.graph.wrapped(results[place]) for name, place in self.fresh.items()}

    def step(self, tensors: Mapping[str, Tensor]) -> BoundStep:
        """Runs of one shape from and into these tensors, by name; outputs without one are let go."""
        return BoundStep(self, tensors)

    @cached_property
    def fed(self) -> tuple[str, ...]:
        """The inputs that each run is given."""
        return tuple(name for name in self.graph.inputs if name not in self.buffers)

    @cached_property
    def fresh(self) -> dict[str, int]:
        """The outputs that each run makes anew, and their places among all."""
        names = enumerate(self.graph.outputs)
        return {name: place for place, name in names if not name.startswith(PRESENT)}


class BoundStep:
    """A bound graph for many runs of one shape, whose inputs and outputs are filled in place."""

    def __init__(self, bound: BoundGraph, tensors: Mapping[str, Tensor]) -> None:
        self._graph, self._binding = bound.graph, bound.graph.session.io_binding()
        held = {**tensors, **bound.buffers}
        for name in bound.graph.inputs:
            if name in held:
                self._binding.bind_ortvalue_input(name, held[name])
        for name in bound.graph.outputs:
            source = name.replace(PRESENT, PAST, 1)
            if source in held:
                self._binding.bind_ortvalue_output(name, held[source])

    def run(self, changed: Mapping[str, Tensor]) -> None:
        """One run, with these tensors as inputs; those the graph lacks are left out. Raises RunError."""
        try:
            for name, value in changed.items():
                if name in self._graph.inputs:
                    self._binding.bind_ortvalue_input(name, value)
            self._graph.session.run_with_iobinding(self._binding)
        except Exception as error:
            raise self._graph.failure(error) from error


@dataclass(frozen=True)
class Graphs:
    """The open graphs of one engine and the execution provider they run on.

    `gradient` and `pixel_gradients` open these graphs at the first call; they are there only in engines that
    have them.
    """

    vision: Graph
    lower: Graph
    upper: Graph
    provider: str
    gradient: Callable[[], Graph] | None = None
    pixel_gradients: Callable[[], Graph] | None = None


def open_graphs(
    directory: Path, manifest: Manifest, threads: int | None = None, share_as: str | None = None
) -> Graphs:
    """Open all graphs of an engine for its target, on `threads` cores (all this process may use when None).

    With `share_as`, a digest of the engine, weights are mapped from a copy packed for this processor, made
    when there is none. Raises ProviderError when ONNX Runtime or the provider is missing or another one was
    chosen, EngineDamagedError when a graph cannot be opened, RunError when the copy cannot be made.
    """
    if manifest.target not in TARGETS:
        raise ProviderError(
            f"the engine is for {manifest.target!r} and this version runs {', '.join(PROVIDERS)}; rebuild it"
        )
    provider = PROVIDERS[manifest.target]
    runtime = _runtime()
    threads = threads or usable_cores()
    options = _options(runtime, threads)
    gradient, pixel_gradients = (
        _opened_later(runtime, directory, provider, threads, manifest, name)
        for name in (GRADIENT, PIXEL_GRADIENTS)
    )
    if share_as is not None:
        directory = _packed(runtime, directory, shared_directory(share_as, runtime.__version__), provider)
    mend = mend_command(manifest)
    vision, lower, upper = (
        _open(runtime, directory / f"{name}.onnx", provider, options, mend) for name in GRAPHS
    )
    return Graphs(vision, lower, upper, provider, gradient, pixel_gradients)


def _opened_later(
    runtime: Any, directory: Path, provider: str, threads: int, manifest: Manifest, name: str
) -> Callable[[], Graph] | None:
    """Opens a graph that engines may lack and that reads the files of the others.

    Optimizing it would make further copies of their weights in memory: widened, transposed or packed.
    """

    @cache
    def open_now() -> Graph:
        options = _options(runtime, threads)
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
        each_run = None
        if name == PIXEL_GRADIENTS:
            options.enable_cpu_mem_arena = True  # or holes between what the way back needs take as much again
            each_run = runtime.RunOptions()
            each_run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        path = directory / f"{name}.onnx"
        graph = _open(runtime, path, provider, options, mend_command(manifest))
        return replace(graph, options=each_run)

    return open_now if f"{name}.onnx" in manifest.files else None


def open_graph(
    path: Path,
    mend: str,
    threads: int | None = None,
    provider: str = "cpu",
    settings: Mapping[str, str] | None = None,
) -> Graph:
    """Open one graph that stands alone, on `threads` cores (all this process may use when None).

    `settings` are the provider's own. Raises ProviderError without ONNX Runtime or that provider,
    EngineDamagedError, ending in `mend`, when it cannot be opened.
    """
    runtime = _runtime()
    options = _options(runtime, threads or usable_cores())
    return _open(runtime, path, PROVIDERS[provider], options, mend, settings)


def tensor_class() -> Any:
    """The runtime's class of tensors. Raises ProviderError without ONNX Runtime."""
    return _runtime().OrtValue


def usable_cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_providers() -> list[str]:
    """The execution providers compiled into ONNX Runtime here. Raises ProviderError without a sound one."""
    return list(_runtime().get_available_providers())


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ProviderError(import_problem(error)) from error
    return sound(onnxruntime)


def _options(runtime: Any, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # it keeps the widest pass's memory, rounded up to powers of two
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _packed(runtime: Any, directory: Path, shared: Path, provider: str) -> Path:
    """The directory `shared` with the graphs and their packed weights, written now if it is missing."""
    if shared.is_dir():
        return shared
    try:
        with made_at_once(shared) as partial:
            for name in GRAPHS:
                options = _options(runtime, 1)
                options.log_severity_level = 4  # it warns that the copy is for this processor alone
                options.optimized_model_filepath = str(partial / f"{name}.onnx")
                for key, value in PACKING.items():
                    options.add_session_config_entry(f"session.{key}", value.format(name=name))
                runtime.InferenceSession(str(directory / f"{name}.onnx"), options, providers=[provider])
    except Exception as error:
        raise RunError(
            f"the shared copy of the weights cannot be written to {shared} ({error}); free some disk space "
            "or open the engine without sharing"
        ) from error
    return shared


def _open(
    runtime: Any,
    path: Path,
    provider: str,
    options: Any,
    mend: str,
    settings: Mapping[str, str] | None = None,
) -> Graph:
    chosen_with = (provider, dict(settings)) if settings else provider
    if provider == PROVIDERS["cuda"]:
        load_cuda_libraries(runtime)
    try:
        session = runtime.InferenceSession(str(path), options, providers=[chosen_with])
    except Exception as error:
        raise EngineDamagedError(f"{path} cannot be opened ({error}); {mend}") from error
    chosen = session.get_providers()
    if not chosen or chosen[0] != provider:
        raise ProviderError(f"{path.name} was to run on {provider} and got {chosen}; install that provider")
    inputs: Sequence[Any] = session.get_inputs()
    outputs: Sequence[Any] = session.get_outputs()
    return Graph(
        path.stem, session, tuple(item.name for item in inputs), tuple(item.name for item in outputs)
    )
