"""Writes an exported graph whose weights are described: each is read, stored and let go.

A graph whose weights other graphs have stored already only refers to them. Memory is that of one weight.
Knows graphs and layouts; nothing of models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedOpsetsPass

from vicrop_engine.errors import BuildError
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.onnx_files.export import share
from vicrop_export.onnx_files.external_data import ExternalData
from vicrop_export.onnx_files.stacking import split_product, stacked_weights
from vicrop_export.precision.byte_products import CONTRIB
from vicrop_export.precision.layouts import Layout, float_nodes
from vicrop_export.precision.prefill_products import AsBytes, Product, prefill_product

Described = Mapping[str, str]
Placed = dict[str, ir.TensorProtocol]
LayoutOf = Callable[[str], Layout]
Products = Callable[[int, ir.Value, dict[str, ir.Value]], list[ir.Node]]
BACK = -1
TRANSPOSED = "FusedMatMul"  # a product with the transposed weight, of many tokens


@dataclass
class StoredTensors:
    """What graphs have in the files beside them: weights by source and ending, all else by content.

    `stacks` are the weights of one product, by all of their sources.
    """

    weights: dict[str, Placed] = field(default_factory=dict)
    stacks: dict[tuple[str, ...], Placed] = field(default_factory=dict)
    others: dict[bytes, ir.TensorProtocol] = field(default_factory=dict)

    def add(self, more: StoredTensors) -> None:
        """Take over what another graph stored."""
        self.weights |= more.weights
        self.stacks |= more.stacks
        self.others |= more.others


def write_graph(
    model: ir.Model,
    described: Described,
    tensors: CheckpointTensors,
    layout_of: LayoutOf,
    path: Path,
    written: Callable[[str, int], None],
    opset: int | None = None,
    finish: Callable[[ir.Model], None] | None = None,
) -> StoredTensors:
    """Write `path` and `path`.data; the weights in `described` come from the checkpoint under these names.

    `layout_of` gives a checkpoint name's layout, and `opset` is the version of the operators it needs where
    that is above the model's. `written` hears each such name and its bytes in the file, and `finish` may
    change the graph before it is saved. Says where everything is. Raises CheckpointError and OSError.
    """
    graph, stored = model.graph, StoredTensors()
    graph.opset_imports[""] = opset or graph.opset_imports[""]
    stacks = stacked_weights(graph, described, layout_of)
    with ExternalData(path) as data:
        for name, value in list(graph.initializers.items()):
            if name in stacks:
                stack = stacks[name]
                names = [str(weight.name) for weight in stack]
                sources = [described[weight] for weight in names]
                whole, stored_parts = _store(data, names, sources, tensors, layout_of, written)
                stored.weights |= stored_parts
                stored.stacks[tuple(sources)] = whole
                _multiply(graph, stack, whole, sources, _products(layout_of, tensors, sources))
            elif name not in described and value.const_value is not None:
                array = value.const_value.numpy()
                value.const_value = stored.others[_digest(array)] = data.add(name, array)
    share(model)
    if finish is not None:
        finish(model)
    _save(model, path)
    return stored


def _store(
    data: ExternalData,
    names: Sequence[str],
    sources: Sequence[str],
    tensors: CheckpointTensors,
    layout_of: LayoutOf,
    written: Callable[[str, int], None],
) -> tuple[Placed, dict[str, Placed]]:
    """Write the weights of one stack; the tensors of all together, and each one's by its source."""
    encoded = []
    for source in sources:
        with tensors.naming(source, "build with fp32 or int8"):
            encoded.append(layout_of(source).encode(tensors.stored(source)))
    whole: Placed = {}
    parts: dict[str, Placed] = {source: {} for source in sources}
    for ending in encoded[0]:
        whole[ending], each = data.add_stacked(
            [f"{name}{ending}" for name in names], [arrays[ending] for arrays in encoded]
        )
        for source, tensor in zip(sources, each, strict=True):
            parts[source][ending] = tensor
    for source, stored in parts.items():
        written(source, sum(tensor.nbytes for tensor in stored.values()))
    return whole, parts


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
                products = _products(layout_of, tensors, [source], for_one_token=True)
            _multiply(graph, [value], stored.weights[source], [source], products)
        elif value.const_value is not None:
            value.const_value = stored.others.get(_digest(value.const_value.numpy()), value.const_value)
    share(model, expressions=False)  # a weight unpacked for the way there would be kept for the way back
    _save(model, path)


def write_twin(
    model: ir.Model,
    described: Described,
    tensors: CheckpointTensors,
    layout_of: LayoutOf,
    path: Path,
    stored: StoredTensors,
    finish: Callable[[ir.Model], None] | None = None,
) -> None:
    """Write `path`, for whole prompts, whose usual graph is `stored` already.

    It refers to that one's weights, or has them as other bytes in a file of its own. Raises OSError.
    """
    graph = model.graph

    def product_of(source: str) -> Product:
        layout = layout_of(source)
        return prefill_product(layout) or layout

    with ExternalData(path) as data:
        for stack in stacked_weights(graph, described, product_of).values():
            sources = [described[str(weight.name)] for weight in stack]
            product, placed = product_of(sources[0]), stored.stacks[tuple(sources)]
            if isinstance(product, AsBytes):
                placed = _store_as_bytes(data, product, placed, tensors.shape(sources[0])[1])
            _multiply(graph, stack, placed, sources, _forward_products(product, tensors, sources))
    for value in graph.initializers.values():
        if value.const_value is not None:
            value.const_value = stored.others.get(_digest(value.const_value.numpy()), value.const_value)
    share(model)
    if finish is not None:
        finish(model)
    _save(model, path)


def _store_as_bytes(data: ExternalData, product: AsBytes, placed: Placed, num_in: int) -> Placed:
    """Write the bytes of a prompt's product, made of a stored stack."""
    arrays = product.encode({ending: tensor.numpy() for ending, tensor in placed.items()}, num_in)
    name = str(next(iter(placed.values())).name)
    return {ending: data.add(f"{name}{ending}", array) for ending, array in arrays.items()}


def _forward_products(product: Product, tensors: CheckpointTensors, sources: Sequence[str]) -> Products:
    """Makes the nodes of a stack's product; the weight stands on the right of it."""
    num_in = tensors.shape(sources[0])[1]
    num_out = sum(tensors.shape(source)[0] for source in sources)

    def make(place: int, x: ir.Value, stored: dict[str, ir.Value]) -> list[ir.Node]:
        return product.nodes(x, stored, (num_in, num_out))

    return make


def _products(
    layout_of: LayoutOf, tensors: CheckpointTensors, sources: Sequence[str], *, for_one_token: bool = False
) -> Products:
    """Makes the nodes of a stack's product by the weights' place in it: 1 forwards, 0 back."""
    layout = layout_of(sources[0])
    num_in = tensors.shape(sources[0])[1]
    num_out = sum(tensors.shape(source)[0] for source in sources)

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
    graph: ir.Graph, stack: Sequence[ir.Value], placed: Placed, sources: Sequence[str], products: Products
) -> None:
    """Put the stored tensors in place of the described weights, and their product in place of theirs."""
    uses = [use for value in stack for use in value.uses()]
    names = [graph.initializers.pop(str(value.name)).name for value in stack]
    stored = {
        ending: ir.Value(
            name=f"{names[0]}{ending}",
            shape=ir.Shape(tensor.shape.numpy()),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        for ending, tensor in placed.items()
    }
    for added in stored.values():
        graph.register_initializer(added)
    if len(stack) > 1:
        nodes = [node for node, _ in uses]
        _replace(graph, nodes, split_product(nodes, products(1, _tokens(nodes[0], 1, sources), stored)))
        return
    for node, place in uses:
        made = products(BACK if node.op_type == TRANSPOSED else place, _tokens(node, place, sources), stored)
        _replace(graph, [node], made)


def _tokens(node: ir.Node, place: int, sources: Sequence[str]) -> ir.Value:
    """What the weight at `place` is multiplied with. Raises BuildError for anything but a product."""
    tokens = node.inputs[1 - place] if node.op_type in ("MatMul", TRANSPOSED) else None
    if tokens is None:
        raise BuildError(f"{sources[0]} is used by {node.op_type}, wanted only products; report this")
    return tokens


def _replace(graph: ir.Graph, nodes: Sequence[ir.Node], made: Sequence[ir.Node]) -> None:
    """Put `made`, whose last node has the results of `nodes` in their order, where the first of these is."""
    results = [node.outputs[0] for node in nodes]
    ir.convenience.replace_nodes_and_values(graph, nodes[0], nodes, made, results, list(made[-1].outputs))


def _save(model: ir.Model, path: Path) -> None:
    model.graph.opset_imports[CONTRIB] = 1
    RemoveUnusedOpsetsPass()(model)
    ir.save(model, path)


def _digest(array: NDArray[Any]) -> bytes:
    digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    digest.update(array.tobytes())
    return digest.digest()
