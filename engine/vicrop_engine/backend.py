"""ONNX Runtime, and the only file that knows it: opens graphs, checks where they really run, runs them.

Decoder graphs run bound to KV buffers that they read and write in place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vicrop_engine.appending import AppendingGraph
from vicrop_engine.errors import EngineDamagedError, ProviderError, RunError, one_of
from vicrop_engine.kv_cache import PAST, PRESENT, OpenGraph, Tensor
from vicrop_engine.kv_cache import BoundGraph as Bound
from vicrop_engine.manifest import GRADIENT, GRAPHS, PIXEL_GRADIENTS, TENSORRT, Manifest, mend_command
from vicrop_engine.shared_weights import made_at_once, shared_directory

PROVIDERS = {"cpu": "CPUExecutionProvider"}
PACKING = {
    "optimized_model_external_initializers_file_name": "{name}.onnx.data",
    "optimized_model_external_initializers_min_size_in_bytes": "1024",
    "save_external_prepacked_constant_initializers": "1",
}
UNFUSED = "session.disable_quant_qdq", "1"  # quantized products as they are written; fusing breaks float8's
NEW_AXIS = "seq"  # of the new tokens, in graphs of standard operators
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
    def appends(self) -> bool:
        """Whether it gives the new tokens' keys and values alone, instead of writing into buffers."""
        outputs = self.session.get_outputs()
        return any(item.name.startswith(PRESENT) and item.shape[1] == NEW_AXIS for item in outputs)

    def bound(self, capacity: int) -> Bound:
        """This graph with zeroed KV buffers for `capacity` tokens; memory is taken as they are filled."""
        if self.appends:
            return AppendingGraph.of(self, capacity)
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
        names = [name for name in self.graph.inputs if name not in self.buffers]
        values = {name: self.graph.tensor(feeds[name]) for name in names}
        fresh = [name for name in self.graph.outputs if not name.startswith(PRESENT)]
        try:
            for name, value in values.items():
                self.binding.bind_ortvalue_input(name, value)
            for name in fresh:
                self.binding.bind_output(name, "cpu")
            self.graph.session.run_with_iobinding(self.binding)
        except Exception as error:
            raise self.graph.failure(error) from error
        results = dict(zip(self.graph.outputs, self.binding.get_outputs(), strict=True))
        return {name: results[name] for name in fresh}

    def take(self, source: Bound, length: int) -> None:
        """Copy the first `length` tokens of another one's buffers."""
        for name, buffer in self.buffers.items():
            buffer.numpy()[:, :, :length] = source.buffers[name].numpy()[:, :, :length]


@dataclass(frozen=True)
class Graphs:
    """The open graphs of one engine and the execution provider they run on.

    `gradient` and `pixel_gradients` open these graphs at the first call; they are there only in engines that
    have them.
    """

    vision: OpenGraph
    lower: OpenGraph
    upper: OpenGraph
    provider: str
    gradient: Callable[[], Graph] | None = None
    pixel_gradients: Callable[[], Graph] | None = None


def open_graphs(
    directory: Path,
    manifest: Manifest,
    threads: int | None = None,
    share_as: str | None = None,
    provider: str | None = None,
) -> Graphs:
    """Open all graphs of an engine for its target, on `threads` cores (all this process may use when None).

    `provider` "cpu" runs an engine for TensorRT on ONNX Runtime instead, from the graphs its plans were
    compiled from. With `share_as`, a digest of the engine, weights are mapped from a copy packed for this
    processor, made when there is none. Raises ProviderError when ONNX Runtime or the provider is missing or
    another one was chosen, EngineDamagedError when a graph cannot be opened, RunError when the copy cannot be
    made.
    """
    wanted = provider or manifest.target
    if wanted == TENSORRT:
        from vicrop_engine.plan_runtime import open_plans

        plans = open_plans(directory, manifest)
        return Graphs(plans[0], plans[1], plans[2], TENSORRT)
    if manifest.target not in (*PROVIDERS, TENSORRT):
        raise ProviderError(
            f"the engine is for {manifest.target!r} and this version runs "
            f"{', '.join((*PROVIDERS, TENSORRT))}; rebuild it"
        )
    if wanted not in PROVIDERS:
        raise ProviderError(one_of("provider", wanted, (*PROVIDERS, TENSORRT)))
    provider = PROVIDERS[wanted]
    runtime = _runtime()
    threads = threads or usable_cores()
    options = _options(runtime, threads)
    if manifest.target == TENSORRT:
        options.add_session_config_entry(*UNFUSED)
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


def open_graph(path: Path, mend: str, threads: int | None = None) -> Graph:
    """Open one graph that stands alone on the CPU, on `threads` cores (all this process may use when None).

    Raises ProviderError without ONNX Runtime, EngineDamagedError, ending in `mend`, when it cannot be opened.
    """
    runtime = _runtime()
    return _open(runtime, path, PROVIDERS["cpu"], _options(runtime, threads or usable_cores()), mend)


def usable_cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_providers() -> list[str]:
    """The execution providers compiled into this machine's ONNX Runtime. Raises ProviderError without one."""
    return list(_runtime().get_available_providers())


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ProviderError(
            "ONNX Runtime is not installed; run pip install 'vicrop-engine[cpu]' to have it"
        ) from error
    return onnxruntime


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


def _open(runtime: Any, path: Path, provider: str, options: Any, mend: str) -> Graph:
    try:
        session = runtime.InferenceSession(str(path), options, providers=[provider])
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
