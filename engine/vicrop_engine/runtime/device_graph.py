"""Graphs whose inputs and outputs stay on a device, and opening those of an engine for one.

Knows ONNX Runtime's sessions only as the backend opens them; nothing of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vicrop_engine.counters import Tally
from vicrop_engine.engine_dir.manifest import GRAPHS, INSTRUCTED, KV_BUFFER, ROWS, Manifest, remedy_command
from vicrop_engine.errors import ProviderError
from vicrop_engine.runtime.device import Array, Device, DeviceTensor
from vicrop_engine.runtime.graphs import PROVIDERS, open_graph
from vicrop_engine.runtime.host_graph import Graph
from vicrop_engine.runtime.interfaces import PAST, PRESENT
from vicrop_engine.runtime.onnx_runtime import available_providers, tensor_class

CUDA = "cuda"
ON_HOST = {"added"}  # inputs that say a shape, which the runtime reads on the host
Feed = Array | DeviceTensor


@dataclass(frozen=True)
class DeviceGraph:
    """One open graph on a device."""

    graph: Graph
    device: Device

    @cached_property
    def states(self) -> type[np.floating]:
        """The type of its states: float16, or float32."""
        kinds = {item.type for item in self.graph.session.get_inputs()}
        return np.float16 if "tensor(float16)" in kinds else np.float32

    @property
    def past_shapes(self) -> dict[str, tuple[int, int]]:
        """KV heads and head size of the past keys and values, by input name."""
        inputs = self.graph.session.get_inputs()
        return {item.name: (item.shape[1], item.shape[3]) for item in inputs if item.name.startswith(PAST)}

    def run(self, feeds: Mapping[str, Feed]) -> dict[str, DeviceTensor]:
        """All outputs by name. Arrays are uploaded; feeds the graph lacks are left out. Raises RunError."""
        return self._run(self.graph.session.io_binding(), feeds, {})

    def bound(self, buffers: dict[str, DeviceTensor]) -> BoundDeviceGraph:
        """This graph with these KV buffers, by input name."""
        return BoundDeviceGraph(self, buffers, self.graph.session.io_binding())

    def _run(
        self, binding: Any, feeds: Mapping[str, Feed], buffers: Mapping[str, DeviceTensor]
    ) -> dict[str, DeviceTensor]:
        names = [name for name in self.graph.inputs if name not in buffers]
        values = {name: self._value(name, feeds[name]) for name in names}
        fresh = [name for name in self.graph.outputs if not name.startswith(PRESENT)]
        try:
            for name, value in values.items():
                binding.bind_ortvalue_input(name, value)
            for name in fresh:
                binding.bind_output(name, self.device.kind, self.device.index)
            self.graph.session.run_with_iobinding(binding)
        except Exception as error:
            raise self.graph.failure(error) from error
        results = dict(zip(self.graph.outputs, binding.get_outputs(), strict=True))
        return {name: DeviceTensor(results[name]) for name in fresh}

    def _value(self, name: str, feed: Feed) -> Any:
        if isinstance(feed, DeviceTensor):
            return feed.value
        return self.graph.tensor(feed) if name in ON_HOST else self.device.upload(feed).value


@dataclass(frozen=True)
class BoundDeviceGraph:
    """A graph whose past and present keys and values are the same buffers on the device, by input name."""

    graph: DeviceGraph
    buffers: dict[str, DeviceTensor]
    binding: Any

    def __post_init__(self) -> None:
        for name, buffer in self.buffers.items():
            self.binding.bind_ortvalue_input(name, buffer.value)
        for name in self.graph.graph.outputs:
            if name.startswith(PRESENT):
                buffer = self.buffers[name.replace(PRESENT, PAST, 1)]
                self.binding.bind_ortvalue_output(name, buffer.value)
            else:
                self.binding.bind_output(name, self.graph.device.kind, self.graph.device.index)

    def run(self, feeds: Mapping[str, Feed]) -> dict[str, DeviceTensor]:
        """All outputs but keys and values by name; those are written into the buffers. Raises RunError."""
        return self.graph._run(self.binding, feeds, self.buffers)


@dataclass(frozen=True)
class DeviceGraphs:
    """The open graphs of an engine for a device, where they run, and the provider that runs them."""

    vision: DeviceGraph
    lower: DeviceGraph
    upper: DeviceGraph
    rows: DeviceGraph
    kv_buffer: DeviceGraph
    device: Device
    provider: str
    instructed: DeviceGraph | None = None


def open_device_graphs(
    directory: Path,
    manifest: Manifest,
    tally: Tally,
    *,
    provider: str | None = None,
    index: int = 0,
    threads: int | None = None,
) -> DeviceGraphs:
    """Open all graphs of an engine for a device, on GPU `index`; with provider "cpu" on a processor instead.

    Raises ProviderError when the provider is missing or another one was chosen, EngineDamagedError when a
    graph cannot be opened.
    """
    kind = provider or manifest.target
    chosen, settings = PROVIDERS[kind], None
    if kind == CUDA:
        _demand_cuda(chosen)
        settings = {"device_id": str(index), "arena_extend_strategy": "kSameAsRequested"}
    device = Device(kind, index, tensor_class(), tally)
    remedy = remedy_command(manifest)
    opened = {
        name: DeviceGraph(open_graph(directory / f"{name}.onnx", remedy, threads, kind, settings), device)
        for name in (*manifest.graphs, ROWS, KV_BUFFER)
    }
    vision, lower, upper, rows, kv_buffer = (opened[name] for name in (*GRAPHS, ROWS, KV_BUFFER))
    instructed = opened.get(INSTRUCTED)
    return DeviceGraphs(vision, lower, upper, rows, kv_buffer, device, chosen, instructed)


def _demand_cuda(provider: str) -> None:
    there = available_providers()
    if provider not in there:
        raise ProviderError(
            f"the engine is for an NVIDIA GPU and ONNX Runtime here has no {provider} ({', '.join(there)}); "
            "uninstall onnxruntime and run pip install 'vicrop-engine[gpu]' on a machine with a GPU, or try "
            "the engine on the processor with provider 'cpu'"
        )
