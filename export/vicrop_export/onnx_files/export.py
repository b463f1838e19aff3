"""Exports a torch module as one ONNX graph.

The graph holds no traces of the machine it was made on, so that the same checkpoint gives the same bytes.
Knows nothing of models, and nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir
import torch
from onnx_ir.passes import common
from onnxscript import optimizer
from torch import nn

from vicrop_engine.errors import BuildError
from vicrop_export.ops import (
    attention as attention_op,
)
from vicrop_export.ops import (
    attention_gradient as attention_gradient_op,
)
from vicrop_export.ops import (
    gradient as gradient_ops,
)
from vicrop_export.ops import (
    small as operators,
)
from vicrop_export.ops import (
    token_attention as token_attention_op,
)
from vicrop_export.quiet import reason

OPSET = 18
TRANSLATIONS: operators.Translations = {
    **operators.TRANSLATIONS,
    **attention_op.TRANSLATIONS,
    **token_attention_op.TRANSLATIONS,
    **gradient_ops.TRANSLATIONS,
    **attention_gradient_op.TRANSLATIONS,
}


@dataclass(frozen=True)
class GraphInterface:
    """Example arguments in order, names of inputs and outputs, and which axes are dynamic.

    `axes` follows the structure of `arguments`, as torch.export wants it; `output_axes` names the dynamic
    axes of outputs. `translations` take the place of the usual ones.
    """

    arguments: tuple[Any, ...]
    inputs: Sequence[str]
    outputs: Sequence[str]
    axes: Mapping[str, Any]
    output_axes: Mapping[str, Mapping[int, str]]
    translations: operators.Translations = field(default_factory=dict)


def export_graph(module: nn.Module, interface: GraphInterface, name: str) -> onnx_ir.Model:
    """The graph of a module; its weights are what the module holds, which may be descriptions.

    Raises BuildError when torch cannot export the module.
    """
    try:
        program = torch.onnx.export(
            module.eval(),
            interface.arguments,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(interface.inputs),
            output_names=list(interface.outputs),
            dynamic_shapes=dict(interface.axes),
            custom_translation_table={**TRANSLATIONS, **interface.translations},
            optimize=False,
            verbose=False,
        )
    except Exception as error:  # torch.onnx wraps any failure in its own types
        raise BuildError(f"{name}: torch could not export the graph: {reason(error)}") from error
    if program is None:
        raise BuildError(f"{name}: torch exported no graph")
    model = program.model
    _tidy(model)
    _name_axes(model.graph, interface.output_axes)
    return model


def _name_axes(graph: onnx_ir.Graph, axes: Mapping[str, Mapping[int, str]]) -> None:
    for output in graph.outputs:
        named = axes.get(output.name or "", {})
        if output.shape is None:
            raise BuildError(f"output {output.name} of the exported graph has no shape")
        dims = [named.get(index, dim) for index, dim in enumerate(output.shape)]
        output.shape = onnx_ir.Shape(dims)


def _tidy(model: onnx_ir.Model) -> None:
    """Fold constants, drop what is unused or there twice, and forget the stack traces torch puts in nodes."""
    passes: Any = common
    passes.InlinePass()(model)
    optimizer.fold_constants(model)
    onnx_ir.passes.Sequential(
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.OutputFixPass(),
        passes.ClearMetadataAndDocStringPass(),
    )(model)
    share(model)


def share(model: onnx_ir.Model, *, expressions: bool = True) -> None:
    """Keep one of each small constant and of each expression, and give every value a name.

    Without `expressions` these stay as often as they are: to make one again may be better than to keep it.
    """
    passes: Any = common
    onnx_ir.passes.Sequential(
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        *([passes.CommonSubexpressionEliminationPass()] if expressions else []),
        passes.NameFixPass(),
    )(model)
