"""A decoder graph of standard operators, which gives only the new tokens' keys and values, on one KV buffer.

Buffers are token by token, [1, capacity, kv_heads, head_dim]: the past is their first rows as they lie there,
and what the graph gives is written into the rows after it. Knows tensors of the host; no sessions are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vicrop_engine.runtime.interfaces import PAST, PRESENT, BoundGraph, Feed, Tensor

BIAS = "attention_bias"  # [1, 1, new, total]: says how many rows are in use and how many tokens are new

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


@dataclass(frozen=True)
class HostTensor:
    """An array of the host as a tensor."""

    array: npt.NDArray[Any]

    def numpy(self) -> npt.NDArray[Any]:
        """The array itself."""
        return self.array

    def tensor_size_in_bytes(self) -> int:
        """Its size."""
        return self.array.nbytes


@dataclass(frozen=True)
class AppendingGraph:
    """An ONNX Runtime graph whose past lies in the buffers, by input name."""

    graph: Any
    buffers: dict[str, HostTensor]

    @classmethod
    def of(cls, graph: Any, capacity: int) -> AppendingGraph:
        """The graph with zeroed buffers for `capacity` tokens; memory is taken as they are filled."""
        past = {item.name: item for item in graph.session.get_inputs() if item.name.startswith(PAST)}
        return cls(
            graph,
            {
                name: HostTensor(np.zeros((1, capacity, *item.shape[2:]), TYPES[item.type]))
                for name, item in past.items()
            },
        )

    def run(self, feeds: Mapping[str, Feed]) -> dict[str, Tensor]:
        """All outputs but keys and values by name; those are written into the buffers.

        Feeds the graph lacks are left out. Raises RunError with the runtime's own reason.
        """
        graph, binding = self.graph, self.graph.session.io_binding()
        new, total = graph.tensor(feeds[BIAS]).shape()[2:]
        for name in graph.inputs:
            past = name in self.buffers
            value = self._rows(name, 0, total - new) if past else graph.tensor(feeds[name])
            binding.bind_ortvalue_input(name, value)
        for name in graph.outputs:
            if name.startswith(PRESENT):
                rows = self._rows(name.replace(PRESENT, PAST, 1), total - new, total)
                binding.bind_ortvalue_output(name, rows)
            else:
                binding.bind_output(name, "cpu")
        try:
            graph.session.run_with_iobinding(binding)
        except Exception as error:
            raise graph.failure(error) from error
        results = dict(zip(graph.outputs, binding.get_outputs(), strict=True))
        return {name: value for name, value in results.items() if not name.startswith(PRESENT)}

    def step(self, feeds: Mapping[str, Feed]) -> RepeatedRun:
        """Runs of one shape from and into these, by name; arrays are filled in place between runs."""
        return RepeatedRun(self, feeds)

    def take(self, source: BoundGraph, length: int) -> None:
        """Copy the first `length` tokens of another one's buffers."""
        for name, buffer in self.buffers.items():
            buffer.array[:, :length] = source.buffers[name].numpy()[:, :length]

    def _rows(self, name: str, start: int, stop: int) -> Any:
        """Rows of a buffer as a tensor of the runtime on the same memory."""
        return self.graph.tensor(self.buffers[name].array[:, start:stop])


class RepeatedRun:
    """Runs of a bound graph from and into these feeds, by name; its results are copied into the arrays."""

    def __init__(self, bound: BoundGraph, feeds: Mapping[str, Feed]) -> None:
        self._bound, self._feeds = bound, feeds

    def run(self, changed: Mapping[str, Tensor]) -> None:
        """One run, with these tensors as inputs. Raises RunError."""
        for name, result in self._bound.run({**self._feeds, **changed}).items():
            held = self._feeds.get(name)
            if isinstance(held, np.ndarray):
                held[...] = result.numpy()
