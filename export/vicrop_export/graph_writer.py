"""Writes an exported graph whose weights are described: each is read, stored and let go.

A graph whose weights other graphs have stored already only refers to them. Memory is that of one weight.
Knows graphs and layouts; nothing of LLaVA.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedOpsetsPass

from vicrop_engine.errors import BuildError
from vicrop_export.external_data import ExternalData
from vicrop_export.layouts import CONTRIB, Layout, float_nodes
from vicrop_export.onnx_export import share
from vicrop_export.tensors import CheckpointTensors

Described = Mapping[str, str]
LayoutOf = Callable[[str], Layout]
Products = Callable[[int, ir.Value, dict[str, ir.Value]], list[ir.Node]]
BACK = -1
TRANSPOSED = "FusedMatMul"  # a product with the transposed weight, of many tokens


@dataclass
class StoredTensors:
    """What graphs have in the files beside them: weights by source and ending, all else by content."""

    weights: dict[str, dict[str, ir.TensorProtocol]] = field(default_factory=dict)
    others: dict[bytes, ir.TensorProtocol] = field(default_factory=dict)

    def add(self, more: StoredTensors) -> None:
        """Take over what another graph stored."""
        self.weights |= more.weights
        self.others |= more.others


def write_graph(
    model: ir.Model,
    described: Described,
    tensors: CheckpointTensors,
    layout_of: LayoutOf,
    path: Path,
    written: Callable[[str, int], None],
    opset: int | None = None,
) -> StoredTensors:
    """Write `path` and `path`.data; the weights in `described` come from the checkpoint under these names.

    `layout_of` gives a checkpoint name's layout, and `opset` is the version of the operators it needs where
    that is above the model's. `written` hears each such name and its bytes in the file. Says where everything
    is. Raises CheckpointError and OSError.
    """
    graph, stored = model.graph, StoredTensors()
    graph.opset_imports[""] = opset or graph.opset_imports[""]
    with ExternalData(path) as data:
        for name, value in list(graph.initializers.items()):
            if name in described:
                source = described[name]
                with tensors.naming(source, "build with fp32 or int8"):
                    arrays = layout_of(source).encode(tensors.stored(source))
                placed = {ending: data.add(f"{name}{ending}", array) for ending, array in arrays.items()}
                stored.weights[source] = placed
                written(source, sum(tensor.nbytes for tensor in placed.values()))
                _multiply(graph, value, placed, source, _products(layout_of, tensors, source))
            elif value.const_value is not None:
                array = value.const_value.numpy()
                value.const_value = stored.others[_digest(array)] = data.add(name, array)
    share(model)
    _save(model, path)
    return stored


def write_referring_graph(
    model: ir.Model,
    described: Described,
    tensors: CheckpointTensors,
    layout_of: LayoutOf,
    path: Path,
    stored: StoredTensors,
    *,
    whole_prompts: bool = False,
) -> None:
    """Write `path`, a graph for one token and back whose weights are `stored` beside it already.

    One for `whole_prompts` multiplies with the weights as floats. Raises OSError, and BuildError when a
    weight is not there.
    """
    graph = model.graph
    for name, value in list(graph.initializers.items()):
        if name in described:
            source = described[name]
            if source not in stored.weights:
                raise BuildError(f"{path.name} wants {source}, which no graph before it has; report this")
            if whole_prompts:
                products = _float_products(layout_of, tensors, source)
            else:
                products = _products(layout_of, tensors, source, for_one_token=True)
            _multiply(graph, value, stored.weights[source], source, products)
        elif value.const_value is not None:
            value.const_value = stored.others.get(_digest(value.const_value.numpy()), value.const_value)
    share(model, expressions=False)  # a weight unpacked for the way there would be kept for the way back
    _save(model, path)


def _products(
    layout_of: LayoutOf, tensors: CheckpointTensors, source: str, *, for_one_token: bool = False
) -> Products:
    """Makes the nodes of a product by the weight's place in it: 1 forwards, 0 back."""
    layout = layout_of(source)
    num_out, num_in = tensors.shape(source)

    def make(place: int, x: ir.Value, stored: dict[str, ir.Value]) -> list[ir.Node]:
        if place == 0:
            return layout.column_nodes(x, stored, (num_in, num_out))
        return (layout.row_nodes if for_one_token else layout.nodes)(x, stored, (num_in, num_out))

    return make


def _float_products(layout_of: LayoutOf, tensors: CheckpointTensors, source: str) -> Products:
    """The same for whole prompts, with TRANSPOSED the way back."""
    layout = layout_of(source)
    num_out, num_in = tensors.shape(source)

    def make(place: int, x: ir.Value, stored: dict[str, ir.Value]) -> list[ir.Node]:
        return float_nodes(layout, x, stored, (num_in, num_out), back=place == BACK)

    return make


def _multiply(
    graph: ir.Graph,
    value: ir.Value,
    placed: Mapping[str, ir.TensorProtocol],
    source: str,
    products: Products,
) -> None:
    """Put the stored tensors in place of the described weight, and their products in place of its."""
    name = graph.initializers.pop(str(value.name)).name
    stored = {
        ending: ir.Value(
            name=f"{name}{ending}",
            shape=ir.Shape(tensor.shape.numpy()),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        for ending, tensor in placed.items()
    }
    for added in stored.values():
        graph.register_initializer(added)
    for node, place in tuple(value.uses()):
        other = node.inputs[1 - place] if node.op_type in ("MatMul", TRANSPOSED) else None
        if other is None:
            raise BuildError(f"{source} is used by {node.op_type}, wanted only products; report this")
        made = products(BACK if node.op_type == TRANSPOSED else place, other, stored)
        ir.convenience.replace_nodes_and_values(
            graph, node, [node], made, list(node.outputs), [made[-1].outputs[0]]
        )


def _save(model: ir.Model, path: Path) -> None:
    model.graph.opset_imports[CONTRIB] = 1
    RemoveUnusedOpsetsPass()(model)
    ir.save(model, path)


def _digest(array: NDArray[Any]) -> bytes:
    digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    digest.update(array.tobytes())
    return digest.digest()
