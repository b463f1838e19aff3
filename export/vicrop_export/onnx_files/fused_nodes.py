"""Nodes of a decoder graph that ONNX Runtime has one operator for: fewer to start in every decode step.

A sum that is normalised becomes one node with its norm, and attention takes queries, keys and values as they
come out of one product and turns them itself. Knows graphs; nothing of weights or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from vicrop_export.onnx_files.export import share
from vicrop_export.onnx_files.idle_rows import skip_idle_rows
from vicrop_export.onnx_files.sequences import by_sequence, keep_apart
from vicrop_export.ops.contrib import DOMAIN
from vicrop_export.ops.node_list import NodeList

ATTENTION, NORM = "GroupQueryAttention", "SkipSimplifiedLayerNormalization"
TURNS = "do_rotary"
PACKED = "+"  # between the names of results that lie side by side in one
AFTER_SQUARE = ("ReduceMean", "Add", "Sqrt", "Div", "Mul")  # the rest of `small.onnx_rms_norm`


def finish_for_steps(model: ir.Model) -> None:
    """Everything that makes a decode step shorter; graphs without decoder layers are left as they are.

    A prompt is better off without: of many tokens the one operator takes longer than those it replaces.
    """
    kinds = {"Pow": _add_and_normalise, ATTENTION: _take_packed}
    for node in list(model.graph):
        if node.op_type in kinds:
            kinds[node.op_type](model.graph, node)
    attentions = [node for node in model.graph if node.op_type == ATTENTION]
    if attentions and all(TURNS in node.attributes for node in attentions):
        keep_apart(model.graph, attentions, _present(attentions[0].inputs)[-1])
    share(model)
    RemoveUnusedNodesPass()(model)
    skip_idle_rows(model, with_queries=True)
    for node in model.graph:
        if node.op_type == NORM:
            for unused in node.outputs[1:3]:
                unused.name = ""


def _add_and_normalise(graph: ir.Graph, square: ir.Node) -> None:
    """One node in place of a norm and of the sum it is of, which others may use as well."""
    total, nodes = square.inputs[0], _alone(square, AFTER_SQUARE)
    added = None if total is None else total.producer()
    if not nodes or added is None or added.op_type != "Add" or nodes[3].inputs[0] is not total:
        return
    epsilon, scale = nodes[1].inputs[1], nodes[4].inputs[1]
    if epsilon is None or epsilon.const_value is None:
        return
    fused = ir.node(
        NORM,
        [*added.inputs, scale],
        {"epsilon": float(epsilon.const_value.numpy())},
        domain=DOMAIN,
        num_outputs=4,
    )
    old, new = [*nodes[4].outputs, *added.outputs], [fused.outputs[0], fused.outputs[3]]
    gone = [*reversed(nodes), square, added]
    ir.convenience.replace_nodes_and_values(graph, added, gone, [fused], old, new)


def _alone(node: ir.Node, kinds: tuple[str, ...]) -> list[ir.Node]:
    """The nodes of these kinds after `node`, each the one user of that before it; none if they are not."""
    found: list[ir.Node] = []
    for kind in kinds:
        users = list(node.outputs[0].consumers())
        if len(users) != 1 or users[0].op_type != kind:
            return []
        node = users[0]
        found.append(node)
    return found


def _take_packed(graph: ir.Graph, attention: ir.Node) -> None:
    """Queries, keys and values in one piece where a product gave them so, to be turned by the operator.

    It turns them by the lines of a table for `position_ids`, here the angles of the new tokens in their
    order; that has to have as many lines as there are rows, so that lines of zeros follow.
    """
    shaped = [_producer(value) for value in attention.inputs[:3]]
    turned = [_producer(node.inputs[0]) for node in shaped]
    if [node.op_type for node in turned] != ["RotaryEmbedding", "RotaryEmbedding", "Split"]:
        return
    parts = [node.inputs[0] for node in (*turned[:2], shaped[2])]
    split, table, bias = turned[2], turned[0].inputs[2:4], attention.inputs[10]
    product, widths = split.inputs[0], _numbers(split.inputs[1])
    if product is None or bias is None or parts != list(split.outputs):
        return
    tapped = [node for node in turned[0].outputs[0].consumers() if node is not shaped[0]]
    product.name = PACKED.join(str(part.name) for part in split.outputs)
    made = NodeList()
    cos, sin = (_lengthened(made, half, bias) for half in table if half is not None)
    packed = by_sequence(made, product, bias, sum(widths))
    inputs = [packed, None, None, *attention.inputs[3:7], cos, sin, _numbered(made, table[0], bias), bias]
    attributes = {**attention.attributes, TURNS: ir.AttrInt64(TURNS, 1)}
    fused = ir.Node(DOMAIN, attention.op_type, inputs, attributes.values(), num_outputs=3)
    pairs = attention.outputs, fused.outputs
    ir.convenience.replace_nodes_and_values(graph, attention, [attention], [*made.nodes, fused], *pairs)
    for node in tapped:
        _cut_out(graph, node, turned[0], product, widths[0])
    graph.remove([*shaped, *turned], safe=True)


def _cut_out(graph: ir.Graph, gather: ir.Node, rotary: ir.Node, product: ir.Value, width: int) -> None:
    """Queries of some tokens, cut out of these tokens' lines of the product and then turned."""
    made, taps = NodeList(), _present(gather.inputs[1:])
    lines = made.add("Gather", product, *taps, axis=1)
    ends = [made.constant([end], np.int64) for end in (0, width, 2)]
    cut = made.add("Slice", lines, *ends)
    first, *table = _present(rotary.inputs[1:])
    table = [made.add("Gather", half, *taps, axis=0) for half in table]
    turned = ir.Node(DOMAIN, rotary.op_type, [cut, first, *table], rotary.attributes.values())
    pairs = gather.outputs, turned.outputs
    ir.convenience.replace_nodes_and_values(graph, gather, [gather], [*made.nodes, turned], *pairs)


def _numbered(made: NodeList, table: ir.Value | None, bias: ir.Value) -> ir.Value:
    """0, 1, 2, ... for the new tokens, each a line of the table, by sequence."""
    assert table is not None, "rotary embeddings have tables"
    count = made.add("Squeeze", made.add("Shape", table, start=0, end=1))
    numbers = made.add("Range", made.constant(0, np.int64), count, made.constant(1, np.int64))
    return by_sequence(made, numbers, bias)


def _lengthened(made: NodeList, table: ir.Value, bias: ir.Value) -> ir.Value:
    """A table with lines of zeros after its own, as many together as the bias [..., total] has rows."""
    total, lines = made.add("Shape", bias, start=3, end=4), made.add("Shape", table, start=0, end=1)
    zeros, zero = made.constant([0, 0], np.int64), made.constant([0], np.int64)
    return made.add("Pad", table, made.add("Concat", zeros, made.add("Sub", total, lines), zero, axis=0))


def _producer(value: ir.Value | None) -> ir.Node:
    node = None if value is None else value.producer()
    assert node is not None, "no decoder's attention takes inputs of the graph as they are"
    return node


def _present(values: Sequence[ir.Value | None]) -> list[ir.Value]:
    return [value for value in values if value is not None]


def _numbers(value: ir.Value | None) -> list[int]:
    assert value is not None
    assert value.const_value is not None, "the sizes of a Split are constants"
    return [int(size) for size in value.const_value.numpy()]
