"""The new tokens of several sequences as an axis of their own through all layers of a decoder graph.

As layers are exported all tokens lie along one axis, and each attention tells the sequences apart and puts
them together again. Products and norms take them either way. Knows graphs; nothing of weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from vicrop_export.ops.node_list import NodeList


def by_sequence(made: NodeList, x: ir.Value, bias: ir.Value, *width: int) -> ir.Value:
    """The new tokens `x` [1, new, ...] of each sequence of the bias: [batch, new / batch, *width].

    A width of 0 is that of `x`.
    """
    batch = made.add("Shape", bias, start=0, end=1)
    return made.add("Reshape", x, made.add("Concat", batch, made.constant([-1, *width], np.int64), axis=0))


def keep_apart(graph: ir.Graph, attentions: Sequence[ir.Node], bias: ir.Value) -> None:
    """Tell the tokens of the first input apart once instead of before every attention.

    These are all there are. Tokens that are picked, and outputs, are along one axis again.
    """
    tokens = graph.inputs[0]
    for attention in attentions:
        _leave_as_they_are(graph, attention)
    uses, made = list(tokens.uses()), NodeList()
    apart = by_sequence(made, tokens, bias, 0)
    for user, place in uses:
        user.replace_input_with(place, apart)
    graph.insert_before(next(iter(graph)), made.nodes)
    for node in list(graph):
        axis = node.attributes.get("axis")
        if node.op_type == "Gather" and axis is not None and axis.as_int() == 1:
            _pick_of_all(graph, node)
    for value in [value for value in graph.outputs if _is_along(value, tokens)]:
        _give_together(graph, value)
    for value in (value for node in graph for value in node.outputs):
        if _is_along(value, tokens) and not value.is_graph_output():
            value.shape = None


def _leave_as_they_are(graph: ir.Graph, attention: ir.Node) -> None:
    """Take away the Reshapes before and after attention; the latter's result is attention's own."""
    (after,) = attention.outputs[0].consumers()
    before = None if attention.inputs[0] is None else attention.inputs[0].producer()
    assert before is not None
    assert (before.op_type, after.op_type) == ("Reshape", "Reshape"), "attention tells sequences apart"
    attention.replace_input_with(0, before.inputs[0])
    pairs = after.outputs, attention.outputs[:1]
    ir.convenience.replace_nodes_and_values(graph, after, [after], [], *pairs)


def _pick_of_all(graph: ir.Graph, gather: ir.Node) -> None:
    made, source = NodeList(), gather.inputs[0]
    assert source is not None, "Gather has two inputs"
    gather.replace_input_with(0, _together(made, source))
    graph.insert_before(gather, made.nodes)


def _give_together(graph: ir.Graph, value: ir.Value) -> None:
    """Let an output of the graph be along one axis, under its name."""
    made = NodeList()
    result = _together(made, value)
    graph.outputs[graph.outputs.index(value)] = result
    result.name, result.type, result.shape = value.name, value.type, value.shape
    value.name = f"{value.name}_apart"
    graph.extend(made.nodes)


def _together(made: NodeList, x: ir.Value) -> ir.Value:
    return made.add("Reshape", x, made.constant([1, -1, 0], np.int64))


def _is_along(value: ir.Value, tokens: ir.Value) -> bool:
    """Whether it has as many lines as there are tokens, in the same axes."""
    if value.shape is None or tokens.shape is None:
        return False
    return len(value.shape) == len(tokens.shape) and value.shape[:2] == tokens.shape[:2]
