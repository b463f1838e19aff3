"""Turns a graph exported in float32 into one that computes in float16.

Two things stay float32: what comes of a bias, that is the softmax of attention rows and the rows themselves,
and angles of rotation up to their cosine and sine. Weights of projections are the writer's business. Knows
ONNX; nothing of models.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

FULL, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
WIDE_INPUTS = ("attention_bias",)
NARROWED = ("Cos", "Sin")  # where float32 ends again


def to_half_graph(model: ir.Model) -> None:
    """Change `model` in place. Raises OverflowError for a constant beyond float16.

    Float32 spreads from the bias and from whole numbers made floats to whatever they meet; all else is half.
    """
    graph = model.graph
    _name_types(graph)
    wide = {value for value in graph.inputs if value.name in WIDE_INPUTS}
    for node in tuple(graph):
        from_whole = node.op_type == "Cast" and node.outputs[0].dtype == FULL
        if from_whole or any(value in wide for value in node.inputs):
            _widen_inputs(graph, node, wide)
            wide.update(value for value in node.outputs if value.dtype == FULL)
        if node.op_type in NARROWED and node.outputs[0] in wide:
            _narrow_output(graph, node)
    for value in (*graph.inputs, *(value for node in graph for value in node.outputs)):
        if value.dtype == FULL and value not in wide:
            value.dtype = HALF
    for weight in tuple(graph.initializers.values()):
        _convert(graph, weight, wide)


def _name_types(graph: ir.Graph) -> None:
    """Give every value a type: inside operators translated by hand none was inferred."""
    for node in graph:
        for value in node.outputs:
            if value.dtype is not None:
                continue
            if node.op_type == "Shape":
                value.dtype = ir.DataType.INT64
            elif node.op_type == "Cast":
                value.dtype = ir.DataType(node.attributes["to"].as_int())
            else:
                first = node.inputs[0]
                assert first is not None, "an operator's first input is not left out"
                assert first.dtype is not None, "it was given one just now"
                value.dtype = first.dtype


def _widen_inputs(graph: ir.Graph, node: ir.Node, wide: set[ir.Value]) -> None:
    for index, value in enumerate(node.inputs):
        if value is None or value in wide or value.dtype != FULL or value.is_initializer():
            continue
        cast = ir.node("Cast", [value], {"to": FULL.value})
        cast.outputs[0].dtype, cast.outputs[0].shape = FULL, value.shape
        wide.add(cast.outputs[0])
        graph.insert_before(node, cast)
        node.replace_input_with(index, cast.outputs[0])


def _narrow_output(graph: ir.Graph, node: ir.Node) -> None:
    value = node.outputs[0]
    cast = ir.node("Cast", [value], {"to": HALF.value})
    cast.outputs[0].dtype, cast.outputs[0].shape = HALF, value.shape
    graph.insert_after(node, cast)
    for user, index in tuple(value.uses()):
        if user is not cast:
            user.replace_input_with(index, cast.outputs[0])


def _convert(graph: ir.Graph, weight: ir.Value, wide: set[ir.Value]) -> None:
    """Make a float32 constant float16 for its users that are half; the writer stores described ones."""
    if weight.dtype != FULL or isinstance(weight.const_value, ir.ExternalTensor):
        return
    narrow = [use for use in tuple(weight.uses()) if not any(value in wide for value in use.node.outputs)]
    if not narrow:
        return
    assert weight.const_value is not None, "constants have values"
    half = _half(weight.const_value.numpy())
    name = f"{weight.name}_half"
    value = ir.Value(
        name=name, type=ir.TensorType(HALF), shape=weight.shape, const_value=ir.tensor(half, name=name)
    )
    graph.register_initializer(value)
    for user, index in narrow:
        user.replace_input_with(index, value)
    if not tuple(weight.uses()):
        graph.initializers.pop(str(weight.name))


def _half(array: np.ndarray) -> np.ndarray:
    half = array.astype(np.float16)
    if np.isinf(half).any() and not np.isinf(array).any():
        raise OverflowError("holds a number beyond float16's largest, 65504")
    return half
