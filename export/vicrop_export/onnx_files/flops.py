"""How many multiply-adds a graph takes, counted from its nodes as a function of the sizes of its axes.

Every product of a graph is a number times sizes of axes: the graph's shapes are worked out for some sizes,
then with one size doubled after the other, and what a product's count does then says which axes it has.
Softmax, norms and activations are not counted, as usual. Knows nothing of families or of precisions: these
are the model's own products, whatever a precision makes of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import onnx
import onnx_ir as ir
from onnx import helper
from onnxscript.optimizer import fold_constants

from vicrop_engine.errors import BuildError
from vicrop_export.onnx_files.exported import ExportedGraph

Sizes = Mapping[str, int]
Shapes = Mapping[str, tuple[Any, ...]]
AXES = ("images", "patches", "windows", "seq", "total", "rows", "capacity", "losses")
ATTENTION, FULL_ATTENTION = "GroupQueryAttention", "MultiHeadAttention"
PRODUCTS = ("MatMul", "FusedMatMul", ATTENTION, FULL_ATTENTION)
TEXT, TEXTS = "instruction", (1, 2, 3)
CELL = 4  # patches that make one token, where a graph has patches
LIKE_PRODUCTS = (
    "MatMul",
    "Gemm",
    "Conv",
    "Attention",
    "Einsum",
)  # parts of names; those not known are refused


def count_products(graph: ExportedGraph, image_tokens: int) -> dict[str, int]:
    """Multiply-adds of one run by what they are multiplied with: `{"seq": 512, "seq*total": 64, "": 16}`.

    The names are the graph's axes; `total` of a graph for whole prompts counts the picture's `image_tokens`.
    Where text stands beside tokens of another number, a product has several terms. Raises BuildError for a
    graph whose products or shapes are not understood.
    """
    base = _first_sizes(image_tokens)
    counted = _counts(graph, base, image_tokens)
    doubled = {axis: _counts(graph, {**base, axis: 2 * base[axis]}, image_tokens) for axis in AXES}
    texts = [_counts(graph, {**base, TEXT: n}, image_tokens) for n in TEXTS] if TEXT in _axes(graph) else []
    terms: Counter[str] = Counter()
    for name, count in counted.items():
        along = [counts[name] for counts in texts]
        if len(set(along)) > 1:
            terms.update(_beside_text(*along))
            continue
        powers = {axis: round(math.log2(counts[name] / count)) for axis, counts in doubled.items()}
        term = "*".join(axis for axis, power in powers.items() for _ in range(power))
        terms[term] += count // math.prod(base[axis] ** power for axis, power in powers.items())
    return dict(sorted(terms.items()))


def _axes(graph: ExportedGraph) -> set[str]:
    """The names of its inputs' axes."""
    shapes = [value.type.tensor_type.shape.dim for value in graph.proto.graph.input]
    return {dim.dim_param for dims in shapes for dim in dims}


def _beside_text(first: int, second: int, third: int) -> dict[str, int]:
    """What of a product does not depend on TEXT, grows with it and with its square, by counts at TEXTS."""
    square = (third - 2 * second + first) // 2
    line = second - first - 3 * square
    return {"": first - line - square, TEXT: line, f"{TEXT}*{TEXT}": square}


def _first_sizes(image_tokens: int) -> dict[str, int]:
    """No two alike, a prompt that holds a picture, and buffers with room for twice as much."""
    total = 2 * image_tokens + 64
    of_pictures = {"images": 3, "patches": 11 * CELL, "windows": 13}
    return {**of_pictures, "seq": 5, "total": total, "rows": 7, "capacity": 4 * total, "losses": 2, TEXT: 9}


def _counts(graph: ExportedGraph, sizes: Sizes, image_tokens: int) -> dict[str, int]:
    """Multiply-adds of every product of the graph at these sizes, by the name of its result."""
    standard, products = _standard(graph)
    known = {**sizes, "past": sizes["total"] - sizes["seq"], "before": 1}
    known["suffix"] = sizes["total"] - image_tokens
    known["after"] = known["suffix"] - known["before"]
    for value in standard.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.dim_value = known.get(dim.dim_param, 1)  # the exporter's own names are of axes of one
    model = ir.from_proto(standard)
    fold_constants(model, onnx_shape_inference=True)
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    values += [value for node in model.graph for value in node.outputs]
    shapes = {str(value.name): tuple(value.shape or ()) for value in values}
    return {node.output[0]: _multiply_adds(node, shapes, sizes, graph.name) for node in products}


def _standard(graph: ExportedGraph) -> tuple[onnx.ModelProto, list[onnx.NodeProto]]:
    """The graph in operators whose shapes ONNX can infer, with weights as inputs, and its products."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.proto)
    nodes, products = list(model.graph.node), []
    held = list(model.graph.initializer)
    used = {name for node in nodes if node.op_type in PRODUCTS for name in node.input}
    weights = {weight.name for weight in held if weight.name in used}
    del model.graph.node[:], model.graph.value_info[:], model.graph.initializer[:]
    for weight in held:
        if weight.name in weights:
            entered = helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
            model.graph.input.append(entered)
        else:
            model.graph.initializer.append(weight)
    for node in nodes:
        if node.op_type in PRODUCTS:
            products.append(node)
        elif any(part in node.op_type for part in LIKE_PRODUCTS):
            raise BuildError(f"{graph.name} has a {node.op_type}, which is not counted; report this")
        model.graph.node.extend(_known_nodes(node, weights))
    return model, products


def _known_nodes(node: onnx.NodeProto, weights: set[str]) -> list[onnx.NodeProto]:
    """Nodes with results of the same shapes; an operator that only the runtime knows keeps its inputs'."""
    if node.op_type == "FusedMatMul":
        first, second = node.input
        if second in weights and _is_set(node, "transB"):
            turned = helper.make_node("Transpose", [second], [f"{node.output[0]}_turned"])
            return [turned, helper.make_node("MatMul", [first, turned.output[0]], node.output)]
        places = ("ji" if _is_set(node, "transA") else "ij"), ("kj" if _is_set(node, "transB") else "jk")
        equation = "...{},...{}->...ik".format(*places)
        return [helper.make_node("Einsum", node.input, node.output, equation=equation)]
    if node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type):
        return [node]
    sources = (node.input[0], *node.input[3:5]) if node.op_type == ATTENTION else (node.input[0],) * 9
    results = zip(sources, node.output, strict=False)
    return [helper.make_node("Identity", [source], [output]) for source, output in results if output]


def _multiply_adds(node: onnx.NodeProto, shapes: Shapes, sizes: Sizes, graph: str) -> int:
    """A product's multiply-adds: of every element of its result, as many as the products summed up in it."""
    first, result = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
    if not all(isinstance(size, int) for size in (*first, *result)) or not first or not result:
        raise BuildError(f"the sizes of {node.output[0]} in {graph} cannot be worked out; report this")
    if node.op_type == ATTENTION:  # scores, and values by weights
        return 2 * math.prod(first) * sizes["total"]
    if node.op_type == FULL_ATTENTION:  # the same, among all tokens [pictures, tokens, hidden]
        return 2 * math.prod(first) * int(first[1])
    return math.prod(result) * int(first[-2 if _is_set(node, "transA") else -1])


def _is_set(node: onnx.NodeProto, name: str) -> bool:
    return any(attribute.name == name and attribute.i for attribute in node.attribute)
