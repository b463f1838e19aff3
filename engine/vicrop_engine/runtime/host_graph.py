"""One open graph of ONNX Runtime on the host: running it, also bound to KV buffers that it works in place on.

Knows sessions as the backend made them; makes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vicrop_engine.arrays import Floats
from vicrop_engine.errors import RunError, not_enough_memory, ran_out_of_memory
from vicrop_engine.runtime.appending_graph import AppendingGraph
from vicrop_engine.runtime.interfaces import PAST, PRESENT, Feed, Tensor
from vicrop_engine.runtime.interfaces import BoundGraph as Bound
from vicrop_engine.runtime.onnx_runtime import tensor_class

NEW_AXIS = "seq"  # of the new tokens, in graphs of standard operators


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

    @property
    def takes_batches(self) -> bool:
        """Whether it takes the next tokens of several sequences, whose KV buffers lie side by side."""
        past = [item for item in self.session.get_inputs() if item.name.startswith(PAST)]
        return all(isinstance(item.shape[0], str) for item in past)

    @property
    def appends(self) -> bool:
        """Whether it gives the new tokens' keys and values alone, instead of writing into buffers."""
        outputs = self.session.get_outputs()
        return any(item.name.startswith(PRESENT) and item.shape[1] == NEW_AXIS for item in outputs)

    def bound(self, capacity: int) -> Bound:
        """This graph with zeroed KV buffers for `capacity` tokens; memory is taken as they are filled."""
        if self.appends:
            return AppendingGraph.of(self, capacity)
        return self.bound_to(self.new_buffers(1, capacity))

    def new_buffers(self, batch: int, capacity: int) -> dict[str, Floats]:
        """Zeroed KV buffers [batch, kv_heads, capacity, head_dim]; memory is taken as they are filled."""
        shapes = {item.name: item.shape for item in self.session.get_inputs() if item.name.startswith(PAST)}
        return {
            name: np.zeros((batch, shape[1], capacity, shape[3]), np.float32)
            for name, shape in shapes.items()
        }

    def bound_to(self, buffers: Mapping[str, Floats]) -> Bound:
        """This graph with these KV buffers, by input name."""
        tensors = {name: self.tensor(buffer) for name, buffer in buffers.items()}
        return BoundGraph(self, tensors, self.session.io_binding())

    def failure(self, error: Exception) -> RunError:
        """The runtime's error in one sentence, memory that ran out as what it is."""
        if ran_out_of_memory(error):
            return not_enough_memory(f"to run {self.name}")
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return RunError(f"{self.name} failed while running ({reason}); check memory and the engine")

    @staticmethod
    def tensor(feed: Feed) -> Tensor:
        """The feed as a tensor of the runtime; an array stays where it is, a tensor is returned as it is."""
        if isinstance(feed, np.ndarray):
            value: Tensor = tensor_class().ortvalue_from_numpy(feed)
            return value
        return feed

    @staticmethod
    def wrapped(value: Any) -> Tensor:
        """The runtime's own tensor as those that its sessions give."""
        tensor: Tensor = tensor_class()(value)
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

    def step(self, feeds: Mapping[str, Feed]) -> BoundStep:
        """Runs of one shape from and into these, by name; arrays are filled in place between runs."""
        return BoundStep(self, feeds)

    def take(self, source: Bound, length: int) -> None:
        """Copy the first `length` tokens of another one's buffers."""
        for name, buffer in self.buffers.items():
            buffer.numpy()[:, :, :length] = source.buffers[name].numpy()[:, :, :length]

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

    def __init__(self, bound: BoundGraph, feeds: Mapping[str, Feed]) -> None:
        self._graph, self._binding = bound.graph, bound.graph.session.io_binding()
        self._held = {name: self._graph.tensor(feed) for name, feed in feeds.items()} | bound.buffers
        for name in bound.graph.inputs:
            if name in self._held:
                self._binding.bind_ortvalue_input(name, self._held[name])
        for name in bound.graph.outputs:
            source = name.replace(PRESENT, PAST, 1)
            if source in self._held:
                self._binding.bind_ortvalue_output(name, self._held[source])

    def run(self, changed: Mapping[str, Tensor]) -> None:
        """One run, with these tensors as inputs; those the graph lacks are left out. Raises RunError."""
        try:
            for name, value in changed.items():
                if self._held.get(name) is not value and name in self._graph.inputs:
                    self._binding.bind_ortvalue_input(name, value)
                    self._held[name] = value
            self._graph.session.run_with_iobinding(self._binding)
        except Exception as error:
            raise self._graph.failure(error) from error
