"""Exports a torch module as one ONNX file with its weights beside it.

Standard operators of opset 18 only. The file holds no traces of the machine it was made on, so that the same
checkpoint gives the same bytes. Knows nothing of LLaVA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir
import torch
from torch import nn

from vicrop_engine.errors import BuildError

OPSET = 18
EXTERNAL_BYTES = 1024


@dataclass(frozen=True)
class GraphInterface:
    """Example arguments in order, names of inputs and outputs, and which axes are dynamic.

    `axes` follows the structure of `arguments`, as torch.export wants it; `output_axes` names the dynamic axes
    of outputs.
    """

    arguments: tuple[Any, ...]
    inputs: Sequence[str]
    outputs: Sequence[str]
    axes: Mapping[str, Any]
    output_axes: Mapping[str, Mapping[int, str]]


def export_graph(module: nn.Module, interface: GraphInterface, path: Path) -> None:
    """Write `path` and `path`.data. Raises BuildError when torch cannot export the module, OSError on writing."""
    try:
        program = torch.onnx.export(
            module.eval(),
            interface.arguments,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(interface.inputs),
            output_names=list(interface.outputs),
            dynamic_shapes=dict(interface.axes),
            verbose=False,
        )
    except Exception as error:  # torch.onnx wraps any failure in its own types
        raise BuildError(f"{path.name}: torch could not export the graph: {error}") from error
    if program is None:
        raise BuildError(f"{path.name}: torch exported no graph")
    model = program.model
    _name_axes(model.graph, interface.output_axes)
    _forget_origin(model)
    onnx_ir.save(model, path, external_data=f"{path.name}.data", size_threshold_bytes=EXTERNAL_BYTES)


def _name_axes(graph: onnx_ir.Graph, axes: Mapping[str, Mapping[int, str]]) -> None:
    for output in graph.outputs:
        named = axes.get(output.name or "", {})
        if output.shape is None:
            raise BuildError(f"output {output.name} of the exported graph has no shape")
        dims = [named.get(index, dim) for index, dim in enumerate(output.shape)]
        output.shape = onnx_ir.Shape(dims)


def _forget_origin(model: onnx_ir.Model) -> None:
    """Drop the stack traces and module paths torch writes into every node."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
