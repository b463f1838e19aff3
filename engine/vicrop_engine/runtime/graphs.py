"""Opens the graphs of engines on ONNX Runtime, and checks where they really run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from vicrop_engine.engine_dir.manifest import (
    GRADIENT,
    GRAPHS,
    INSTRUCTED,
    INSTRUCTED_GRADIENT,
    PIXEL_GRADIENTS,
    PREFILL,
    TENSORRT,
    WIDE,
    Manifest,
    remedy_command,
)
from vicrop_engine.errors import (
    EngineDamagedError,
    EngineDirectoryError,
    ProviderError,
    RunError,
    not_enough_memory,
    ran_out_of_memory,
)
from vicrop_engine.process_limits import usable_cores
from vicrop_engine.runtime.host_graph import Graph
from vicrop_engine.runtime.interfaces import OpenGraph
from vicrop_engine.runtime.onnx_runtime import installed_runtime, load_cuda_libraries
from vicrop_engine.runtime.sessions import adds_in_16_bits, open_session, session_options
from vicrop_engine.runtime.shared_weights import made_at_once, shared_directory
from vicrop_engine.runtime.twin_graph import TwinGraph

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
TARGETS = ("cpu", TENSORRT)  # of `open_graphs`; those whose tensors stay elsewhere: `device_graph`
PACKING = {
    "optimized_model_external_initializers_file_name": "{name}.onnx.data",
    "optimized_model_external_initializers_min_size_in_bytes": "1024",
    "save_external_prepacked_constant_initializers": "1",
}
BYTES = ("int8", "int4")  # precisions whose products are of bytes
UNFUSED = "session.disable_quant_qdq", "1"  # quantized products as they are written; fusing breaks float8's


@dataclass(frozen=True)
class Graphs:
    """The open graphs of one engine and the execution provider they run on.

    `gradient`, `pixel_gradients` and `instructed_gradient` open these graphs at the first call; they are
    there only in engines that have them, as is `instructed`, the second stage of the vision part.
    """

    vision: OpenGraph
    lower: OpenGraph
    upper: OpenGraph
    provider: str
    gradient: Callable[[], Graph] | None = None
    pixel_gradients: Callable[[], Graph] | None = None
    instructed: OpenGraph | None = None
    instructed_gradient: Callable[[], Graph] | None = None


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
    provider is missing or another one was chosen, EngineDamagedError when a graph cannot be opened,
    EngineDirectoryError where it was built too long ago for this processor, RunError when the copy cannot be
    made.
    """
    if manifest.target not in TARGETS:
        raise ProviderError(
            f"the engine is for {manifest.target!r} and this version runs {', '.join(TARGETS)}; rebuild it"
        )
    if (provider or manifest.target) == TENSORRT:
        from vicrop_engine.runtime.tensorrt_plans import open_plans

        plans = open_plans(directory, manifest, device)
        return Graphs(plans[0], plans[1], plans[2], TENSORRT)
    files = _Files(directory, manifest, threads or usable_cores())
    files.check()
    gradient, pixel_gradients, instructed_gradient = (
        _opened_later(files, name) for name in (GRADIENT, PIXEL_GRADIENTS, INSTRUCTED_GRADIENT)
    )
    if share_as is not None:
        shared = shared_directory(share_as, installed_runtime().__version__)
        files = replace(files, directory=_packed(files, shared))
    opened = {name: _kernels(files, name) for name in manifest.graphs}
    vision, lower, upper = (opened[name] for name in GRAPHS)
    return Graphs(
        vision,
        lower,
        upper,
        PROVIDERS["cpu"],
        gradient,
        pixel_gradients,
        opened.get(INSTRUCTED),
        instructed_gradient,
    )


@dataclass(frozen=True)
class _Files:
    """Where the graphs of an engine for the processor are, and what they are opened with."""

    directory: Path
    manifest: Manifest
    threads: int

    def check(self) -> None:
        """Raises EngineDirectoryError where products of bytes would overflow, which its probe was to show."""
        manifest = self.manifest
        old = manifest.target == "cpu" and manifest.probe is None and manifest.precision in BYTES
        if old and adds_in_16_bits():
            raise EngineDirectoryError(
                f"{self.directory} was built in {manifest.precision} when products of bytes still needed a "
                f"processor with VNNI, and this one has none; {remedy_command(manifest)}"
            )

    def path(self, name: str) -> Path:
        return self.directory / f"{name}.onnx"

    def holds(self, name: str) -> bool:
        return f"{name}.onnx" in self.manifest.files

    def options(self) -> Any:
        options = _options(self.threads)
        if self.manifest.target == TENSORRT:
            options.add_session_config_entry(*UNFUSED)
        return options

    def open(self, name: str, options: Any = None) -> Graph:
        return _open(
            self.path(name),
            PROVIDERS["cpu"],
            options or self.options(),
            remedy_command(self.manifest),
            fits_16_bits=self.manifest.target == "cpu",
        )


def _kernels(files: _Files, name: str) -> Graph:
    """The graph of this name with the kernels that suit the processor; see docs/precision.md."""
    twin = _twin(files, name)
    if name in files.manifest.encoders:  # are all whole prompts
        return _encoder(files, twin or name)
    if twin is None:
        return files.open(name)
    return TwinGraph.of(files.open(name), files.open(twin))


def _encoder(files: _Files, name: str) -> Graph:
    """A graph of the vision part; one of pictures of many sizes has an arena.

    What it holds then is of so many sizes that the C library's heap is left full of holes: Qwen2.5-VL-3B took
    7.2 GiB for a picture of 1024 x 768 pixels so, and takes 3.8.
    """
    if not files.manifest.sees_many_sizes:
        return files.open(name)
    options = files.options()
    each_run = _arena(options)
    return replace(files.open(name, options), options=each_run)


def _twin(files: _Files, name: str) -> str | None:
    """The twin of a graph that is faster for whole prompts on this processor, if the engine has one."""
    kinds = (PREFILL, WIDE) if adds_in_16_bits() else (PREFILL,)
    return next((name + kind for kind in kinds if files.holds(name + kind)), None)


def _opened_later(files: _Files, name: str) -> Callable[[], Graph] | None:
    """Opens a graph that engines may lack and that reads the files of the others.

    Optimizing it would make further copies of their weights in memory: widened, transposed or packed.
    """

    lock = threading.Lock()

    @cache
    def opened() -> Graph:
        options, each_run = _options(files.threads), None
        options.graph_optimization_level = installed_runtime().GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
        if name == PIXEL_GRADIENTS:
            each_run = _arena(options)  # or holes between what the way back needs take as much again
        return replace(files.open(name, options), options=each_run)

    def open_now() -> Graph:
        with lock:  # or threads that come together would open it twice
            return opened()

    return open_now if files.holds(name) else None


def open_graph(
    path: Path,
    remedy: str,
    threads: int | None = None,
    provider: str = "cpu",
    settings: Mapping[str, str] | None = None,
) -> Graph:
    """Open one graph that stands alone, on `threads` cores (all this process may use when None).

    `settings` are the provider's own. Raises ProviderError without ONNX Runtime or that provider,
    NotEnoughMemoryError, and EngineDamagedError, ending in `remedy`, when it cannot be opened.
    """
    return _open(path, PROVIDERS[provider], _options(threads or usable_cores()), remedy, settings)


def _options(threads: int) -> Any:
    options = session_options(threads)
    options.enable_cpu_mem_arena = False  # it keeps the widest pass's memory, rounded up to powers of two
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _arena(options: Any) -> Any:
    """Have a session keep memory of its own, and the options of a run that gives it back."""
    options.enable_cpu_mem_arena = True
    each_run = installed_runtime().RunOptions()
    each_run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return each_run


def _packed(files: _Files, shared: Path) -> Path:
    """The directory `shared` with the graphs and their packed weights, written now if it is missing."""
    if shared.is_dir():
        return shared
    graphs = files.manifest.graphs
    twins = [twin for name in graphs if (twin := _twin(files, name)) is not None]
    try:
        with made_at_once(shared) as partial:
            for name in (*graphs, *twins):
                options = _options(1)
                options.log_severity_level = 4  # it warns that the copy is for this processor alone
                options.optimized_model_filepath = str(partial / f"{name}.onnx")
                for key, value in PACKING.items():
                    options.add_session_config_entry(f"session.{key}", value.format(name=name))
                open_session(files.path(name), options, fits_16_bits=True)
    except Exception as error:
        if ran_out_of_memory(error):
            raise not_enough_memory(f"to pack the weights into {shared}") from error
        raise RunError(
            f"the shared copy of the weights cannot be written to {shared} ({error}); free some disk space "
            "or open the engine without sharing"
        ) from error
    return shared


def _open(
    path: Path,
    provider: str,
    options: Any,
    remedy: str,
    settings: Mapping[str, str] | None = None,
    *,
    fits_16_bits: bool = False,
) -> Graph:
    if provider == PROVIDERS["cuda"]:
        load_cuda_libraries(installed_runtime())
    chosen_with = (provider, dict(settings)) if settings else provider
    try:
        session = open_session(path, options, chosen_with, fits_16_bits=fits_16_bits)
    except ProviderError:
        raise
    except Exception as error:
        if ran_out_of_memory(error):
            raise not_enough_memory(f"to open {path}") from error
        raise EngineDamagedError(f"{path} cannot be opened ({error}); {remedy}") from error
    chosen = session.get_providers()
    if not chosen or chosen[0] != provider:
        raise ProviderError(f"{path.name} was to run on {provider} and got {chosen}; install that provider")
    inputs: Sequence[Any] = session.get_inputs()
    outputs: Sequence[Any] = session.get_outputs()
    return Graph(
        path.stem, session, tuple(item.name for item in inputs), tuple(item.name for item in outputs)
    )
