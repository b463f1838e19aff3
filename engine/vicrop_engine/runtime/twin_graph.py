"""A decoder graph as two: one for whole prompts, whose products suit many tokens, and one for decode steps.

Both work on the same KV buffers. Knows which runs are which; nothing of how the products differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vicrop_engine.arrays import Floats
from vicrop_engine.runtime.host_graph import Graph
from vicrop_engine.runtime.interfaces import BoundGraph, BoundStep, Feed, Tensor


@dataclass(frozen=True, kw_only=True)
class TwinGraph(Graph):
    """A graph for decode steps whose other runs are those of `prefill`, a graph with the same interface."""

    prefill: Graph

    @classmethod
    def of(cls, steps: Graph, prefill: Graph) -> TwinGraph:
        """Both together."""
        return cls(
            name=steps.name,
            session=steps.session,
            inputs=steps.inputs,
            outputs=steps.outputs,
            options=steps.options,
            prefill=prefill,
        )

    def run(self, feeds: Mapping[str, Feed]) -> dict[str, Tensor]:
        """As of `prefill`."""
        return self.prefill.run(feeds)

    def bound_to(self, buffers: Mapping[str, Floats]) -> BoundGraph:
        """Both graphs with these KV buffers, by input name."""
        return BoundTwin(super().bound_to(buffers), self.prefill.bound_to(buffers))


@dataclass(frozen=True)
class BoundTwin:
    """Both graphs on the same buffers."""

    steps: BoundGraph
    prefill: BoundGraph

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """The buffers, by input name."""
        return self.steps.buffers

    def run(self, feeds: Mapping[str, Feed]) -> dict[str, Tensor]:
        """As of `prefill`."""
        return self.prefill.run(feeds)

    def step(self, feeds: Mapping[str, Feed]) -> BoundStep:
        """Runs of one shape of the graph for decode steps."""
        return self.steps.step(feeds)

    def take(self, source: BoundGraph, length: int) -> None:
        """Copy the first `length` tokens of another one's buffers."""
        self.steps.take(source, length)
