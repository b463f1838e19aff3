"""Opens graphs on ONNX Runtime, checks where they really run; the only file that makes its sessions."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from vicrop_engine.errors import EngineDamagedError, ProviderError, RunError
from vicrop_engine.graph import Graph
from vicrop_engine.kv_cache import OpenGraph
from vicrop_engine.manifest import GRADIENT, GRAPHS, PIXEL_GRADIENTS, TENSORRT, Manifest, mend_command
from vicrop_engine.onnx_runtime import installed_runtime
from vicrop_engine.runtime_package import load_cuda_libraries
from vicrop_engine.shared_weights import made_at_once, shared_directory

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
TARGETS = ("cpu", TENSORRT)  # of `open_graphs`; those whose tensors stay elsewhere: `device_graph`
PACKING = {
    "optimized_model_external_initializers_file_name": "{name}.onnx.data",
    "optimized_model_external_initializers_min_size_in_bytes": "1024",
    "save_external_prepacked_constant_initializers": "1",
}
UNFUSED = "session.disable_quant_qdq", "1"  # quantized products as they are written; fusing breaks float8's


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
    device: int = 0,
) -> Graphs:
    """Open all graphs of an engine for its target, on `threads` cores (all this process may use when None).

    An engine for TensorRT runs its plans on GPU number `device`, or with `provider` "cpu" the graphs they
    were compiled from on ONNX Runtime. With `share_as`, a digest of the engine, weights are mapped from a
    copy packed for this processor, made when there is none. Raises ProviderError when a runtime or its
    provider is missing or another one was chosen, EngineDamagedError when a graph cannot be opened, RunError
    when the copy cannot be made.
    """
    if manifest.target not in TARGETS:
        raise ProviderError(
            f"the engine is for {manifest.target!r} and this version runs {', '.join(TARGETS)}; rebuild it"
        )
    if (provider or manifest.target) == TENSORRT:
        from vicrop_engine.plan_runtime import open_plans

        vision, lower, upper = open_plans(directory, manifest, device)
        return Graphs(vision, lower, upper, TENSORRT)
    provider = PROVIDERS["cpu"]
    runtime = installed_runtime()
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
    graphs = [_open(runtime, directory / f"{name}.onnx", provider, options, mend) for name in GRAPHS]
    return Graphs(graphs[0], graphs[1], graphs[2], provider, gradient, pixel_gradients)


def _opened_later(
    runtime: Any, directory: Path, provider: str, threads: int, manifest: Manifest, name: str
) -> Callable[[], Graph] | None:
    """Opens a graph that engines may lack and that reads the files of the others.

    Optimizing it would make further copies of their weights in memory: widened, transposed or packed.
    """

    lock = threading.Lock()

    @cache
    def opened() -> Graph:
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

    def open_now() -> Graph:
        with lock:  # or threads that come together would open it twice
            return opened()

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
    runtime = installed_runtime()
    options = _options(runtime, threads or usable_cores())
    return _open(runtime, path, PROVIDERS[provider], options, mend, settings)


def usable_cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
