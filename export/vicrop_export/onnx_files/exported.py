"""A graph as it was exported: standard operators, float32, its large weights only named.

Any number of engines, in any precision, can be written from it, and it can be run on the checkpoint itself.
Knows nothing of files of an engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import nn

from vicrop_export.checkpoint.described import sources
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.onnx_files.export import GraphInterface, export_graph
from vicrop_export.onnx_files.in_pieces import PiecewiseGraph

LOCATION = "location"


@dataclass(frozen=True)
class ExportedGraph:
    """An ONNX graph whose described weights are external, each at the place named by its tensor."""

    name: str
    proto: onnx.ModelProto

    def model(self) -> ir.Model:
        """A fresh copy to change."""
        return ir.from_proto(self.proto)

    @property
    def described(self) -> dict[str, str]:
        """The checkpoint's name of every described weight, by its name in the graph."""
        return {
            weight.name: source_of(weight)
            for weight in self.proto.graph.initializer
            if weight.data_location == onnx.TensorProto.EXTERNAL
        }

    def on_checkpoint(self, tensors: CheckpointTensors) -> PiecewiseGraph:
        """The graph ready to run in float32 on the checkpoint's own weights, a few layers at a time."""

        def load(weight: onnx.TensorProto) -> NDArray[Any]:
            turned = tensors.stored(source_of(weight)).t()
            return turned.to(torch.float32, memory_format=torch.contiguous_format).contiguous().numpy()

        return PiecewiseGraph(self.proto, load, packs=False)


def export_described(name: str, module: nn.Module, interface: GraphInterface) -> ExportedGraph:
    """Export a module whose projections are described. Raises BuildError."""
    model = export_graph(module, interface, name)
    for parameter, source in sources(module).items():
        if parameter not in model.graph.initializers:
            continue  # a projection that the graph does not use
        value = model.graph.initializers[parameter]
        value.const_value = ir.ExternalTensor(
            source, 0, 0, ir.DataType.FLOAT, shape=ir.Shape(value.shape or ()), name=parameter
        )
    return ExportedGraph(name, ir.to_proto(model))


def source_of(weight: onnx.TensorProto) -> str:
    """The checkpoint's name of a described weight."""
    return next(str(entry.value) for entry in weight.external_data if entry.key == LOCATION)
