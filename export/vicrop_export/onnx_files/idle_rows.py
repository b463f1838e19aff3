"""Attention rows that nobody asks for are not computed: what only they need is put under a condition.

A decode step reads no rows, and ten idle operators a layer take a few percent of its time. Knows graphs and
the names of the decoders' inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from vicrop_export.ops.node_list import NodeList

ROWS, TAPS, BIAS = "attention", "tap_positions", "attention_bias"


def skip_idle_rows(model: ir.Model, *, with_queries: bool = False) -> None:
    """Compute `attention` only where `tap_positions` is not empty; else it is [layers, 0, heads, total].

    The tapped queries are still gathered outside, or the queries of all tokens would be kept to the end, but
    not in graphs of few tokens, `with_queries`. A graph without these names is left as it is.
    """
    graph = model.graph
    rows = next((value for value in graph.outputs if value.name == ROWS), None)
    if rows is None or rows.shape is None:
        return
    inputs = {value.name: value for value in graph.inputs}
    alone = _ancestors([rows]) - _ancestors([value for value in graph.outputs if value is not rows])
    inside = [node for node in graph if node in alone and (with_queries or node.op_type != "Gather")]
    result = ir.Value(name=ROWS, shape=rows.shape, type=rows.type)
    idle = _no_rows(rows.shape, inputs[BIAS])
    graph.outputs[graph.outputs.index(rows)] = result
    graph.remove(inside)
    rows.name = f"{ROWS}_read"
    branches = [_branch("then_branch", inside, rows), _branch("else_branch", idle, idle[-1].outputs[0])]
    made = NodeList()
    asked = made.add("Cast", made.add("Size", inputs[TAPS]), to=ir.DataType.BOOL.value)
    graph.extend([*made.nodes, ir.Node("", "If", [asked], branches, outputs=[result])])


def _no_rows(shape: ir.Shape, bias: ir.Value) -> list[ir.Node]:
    """An empty array of the rows' shape; only its last axis is not known, and that is the bias's."""
    made = NodeList()
    known = made.constant([size if isinstance(size, int) else 0 for size in shape[:3]], np.int64)
    wanted = made.add("Concat", known, made.add("Shape", bias, start=3, end=4), axis=0)
    made.add("ConstantOfShape", wanted)
    for index, node in enumerate(made.nodes):  # names of a branch are its graph's as well
        node.outputs[0].name = f"{ROWS}_idle_{index}"
    return made.nodes


def _branch(name: str, nodes: Sequence[ir.Node], result: ir.Value) -> ir.Attr:
    result.type, result.shape = ir.TensorType(ir.DataType.FLOAT), None
    return ir.AttrGraph(name, ir.Graph([], [result], nodes=nodes, name=name))


def _ancestors(values: Sequence[ir.Value]) -> set[ir.Node]:
    """All nodes that these values come from."""
    found: set[ir.Node] = set()
    waiting = list(values)
    while waiting:
        node = waiting.pop().producer()
        if node is not None and node not in found:
            found.add(node)
            waiting += [value for value in node.inputs if value is not None]
    return found
