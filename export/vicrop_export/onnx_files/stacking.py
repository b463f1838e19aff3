"""Weights that multiply the same tokens, put together: their bytes are read and their tokens rounded at once.

A layer's queries, keys and values are one product, and so are its MLP's gate and up, where the layout allows
it and is the same. Knows graphs; nothing of files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from vicrop_export.ops.node_list import NodeList
from vicrop_export.precision.prefill_products import Product

Stack = list[ir.Value]


def stacked_weights(
    graph: ir.Graph, described: Mapping[str, str], layout_of: Callable[[str], Product]
) -> dict[str, Stack]:
    """The described weights that go together, in the order of their products, by the first one's name.

    A weight that goes with no other is a stack of its own.
    """
    stacks: dict[object, Stack] = {}
    for name in described:
        if name in graph.initializers:
            value = graph.initializers[name]
            layout, tokens = layout_of(described[name]), _tokens(value)
            key = name if tokens is None or not layout.stacks else (tokens, layout)
            stacks.setdefault(key, []).append(value)
    order = {node: index for index, node in enumerate(graph)}
    for stack in stacks.values():
        stack.sort(key=lambda value: min(order[node] for node, _ in value.uses()))
    return {str(stack[0].name): stack for stack in stacks.values()}


def split_product(nodes: Sequence[ir.Node], product: Sequence[ir.Node]) -> list[ir.Node]:
    """The nodes of a stack's product, and after them a Split into what the products `nodes` gave."""
    made = NodeList()
    sizes = [_num_outputs(node) for node in nodes]
    wanted = made.constant(sizes, np.int64)
    split = ir.node("Split", [product[-1].outputs[0], wanted], {"axis": -1}, num_outputs=len(nodes))
    return [*product, *made.nodes, split]


def _tokens(weight: ir.Value) -> ir.Value | None:
    """What the weight multiplies, where it does so once and from the right."""
    uses = tuple(weight.uses())
    if len(uses) != 1 or uses[0].idx != 1 or uses[0].node.op_type != "MatMul":
        return None
    return uses[0].node.inputs[0]


def _num_outputs(product: ir.Node) -> int:
    weight = product.inputs[1]
    shape = None if weight is None else weight.shape
    assert shape is not None, "described weights have shapes"
    return int(shape.numpy()[1])
