"""Graphs of decode steps with fewer nodes: the same numbers, for a prompt and for a step."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from tests.export.ops.test_attention import DIM, HEADS, exported
from vicrop_export.checks.products import ProductPlace, found_in
from vicrop_export.onnx_files.export import share
from vicrop_export.onnx_files.fused_nodes import NORM, PACKED, finish_for_steps
from vicrop_export.ops.node_list import NodeList

WIDTH = HEADS * DIM
SHARED = 2  # key and value heads
SIZES = [WIDTH, SHARED * DIM, SHARED * DIM]
CAPACITY = 24
BUFFERS = ("past_key", "past_value")


def kinds(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    serialised = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(serialised, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def stacked(*, apart: bool = False) -> ir.Model:
    """The attention operator on the parts of one input, `qkv`; `apart` in another order than theirs."""
    model = ir.from_proto(onnx.load_from_string(exported(SHARED, True)))
    parts = model.graph.inputs[:3]
    made = NodeList()
    qkv = ir.Value(name="qkv", shape=ir.Shape((1, "seq", sum(SIZES))), type=ir.TensorType(ir.DataType.FLOAT))
    product = made.add("Identity", qkv)
    sizes = ir.Value(name="sizes", const_value=ir.tensor(np.array(SIZES)), shape=ir.Shape((3,)))
    split = ir.node("Split", [product, sizes], {"axis": -1}, num_outputs=3)
    order = [0, 2, 1] if apart else [0, 1, 2]
    for part, place in zip(parts, order, strict=True):
        split.outputs[place].name = f"{part.name}_part"
        ir.convenience.replace_all_uses_with(part, split.outputs[place])
    del model.graph.inputs[:3]
    model.graph.inputs.insert(0, qkv)
    model.graph.register_initializer(sizes)
    model.graph.insert_before(next(iter(model.graph)), [*made.nodes, split])
    model.graph.opset_imports["com.microsoft"] = 1
    return model


@cache
def fused() -> ir.Model:
    model = stacked()
    finish_for_steps(model)
    return model


def feeds(num_past: int, num_new: int, taps: list[int]) -> dict[str, np.ndarray]:
    """Positions are in no order, for the graph is told them and does not count."""
    random = np.random.default_rng(num_past + num_new)
    total = num_past + num_new
    bias = np.zeros((1, 1, num_new, total), np.float32)
    bias[0, 0][np.triu_indices(num_new, num_past + 1, total)] = -np.inf
    buffers = {name: random.standard_normal((1, SHARED, CAPACITY, DIM), np.float32) for name in BUFFERS}
    return {
        "qkv": random.standard_normal((1, num_new, sum(SIZES)), np.float32),
        **buffers,
        "position_ids": num_past + random.permutation(num_new)[None],
        "bias": bias,
        "taps": np.array(taps, np.int64),
    }


@pytest.mark.parametrize(
    ("num_past", "num_new", "taps"),
    [(0, 9, [8]), (0, 9, []), (0, 1, [0]), (6, 5, [4, 0]), (6, 2, []), (11, 1, []), (11, 1, [0])],
)
def test_attention_in_one_piece_gives_the_same(num_past: int, num_new: int, taps: list[int]) -> None:
    given = feeds(num_past, num_new, taps)
    for got, wanted in zip(run(fused(), given), run(stacked(), given), strict=True):
        np.testing.assert_allclose(got, wanted, atol=2e-6)


def test_rows_beyond_what_a_token_sees_make_no_difference() -> None:
    given = feeds(11, 1, [])
    spare = np.full((1, 1, 1, CAPACITY - 12), -np.inf, np.float32)
    longer = {**given, "bias": np.concatenate((given["bias"], spare), axis=3)}
    got, wanted = run(fused(), longer), run(fused(), given)
    for place in (0, 2, 3):
        assert np.array_equal(got[place], wanted[place])


def test_attention_takes_the_product_itself_and_queries_are_cut_out_for_rows_alone() -> None:
    before, after = kinds(stacked()), kinds(fused())
    assert (before["Split"], before["RotaryEmbedding"]) == (1, 2)
    assert (after["Split"], after["RotaryEmbedding"]) == (0, 1)
    (attention,) = (node for node in fused().graph if node.op_type == "GroupQueryAttention")
    assert attention.attributes["do_rotary"].as_int() == 1
    assert attention.inputs[1:3] == (None, None)
    cuts = [node for node in fused().graph if node.op_type == "Slice"]
    (cut,) = (node for node in cuts if ends_in_gather(node.inputs[0]))
    assert [node.op_type for node in cut.outputs[0].consumers()] == ["RotaryEmbedding"]


def test_tokens_are_told_apart_once_and_not_by_attention() -> None:
    """Of several sequences, whose tokens lie along one axis before and after."""
    (attention,) = (node for node in fused().graph if node.op_type == "GroupQueryAttention")
    product = attention.inputs[0]
    assert product is not None
    assert product.producer().op_type == "Identity"
    assert product.producer().inputs[0].producer().op_type == "Reshape"
    assert product.name == PACKED.join(f"{name}_part" for name in ("query", "key", "value"))
    (whole,) = (value for value in fused().graph.outputs if value.name == "mixed")
    assert whole.producer().inputs[0] is attention.outputs[0]
    assert kinds(fused())["Range"] == 1


def ends_in_gather(value: ir.Value | None) -> bool:
    node = None if value is None else value.producer()
    return node is not None and node.op_type == "Gather"


def test_parts_in_another_order_stay_apart() -> None:
    model = stacked(apart=True)
    finish_for_steps(model)
    assert kinds(model)["Split"] == 1
    assert kinds(model)["RotaryEmbedding"] == 2


def norm_of(total: ir.Value, made: NodeList, scale: ir.Value) -> ir.Value:
    """What `small.onnx_rms_norm` makes."""
    square = made.add("Pow", total, made.constant(2, np.float32))
    mean = made.add("ReduceMean", square, made.constant([-1], np.int64), keepdims=1)
    root = made.add("Sqrt", made.add("Add", mean, made.constant(1e-3, np.float32)))
    return made.add("Mul", made.add("Div", total, root), scale)


def two_norms() -> ir.Model:
    """The norm of x, and that of x + y, whose sum is used as well."""
    floats = ir.TensorType(ir.DataType.FLOAT)
    x, y = (ir.Value(name=name, shape=ir.Shape((1, "seq", 8)), type=floats) for name in "xy")
    made = NodeList()
    scale = made.constant(np.arange(1, 9), np.float32)
    first = norm_of(x, made, scale)
    total = made.add("Add", x, y)
    outputs = [first, norm_of(total, made, scale), made.add("Mul", total, scale)]
    for number, value in enumerate(outputs):
        value.name, value.type, value.shape = f"out_{number}", floats, ir.Shape((1, "seq", 8))
    graph = ir.Graph([x, y], outputs, nodes=made.nodes, name="g", opset_imports={"": 18, "com.microsoft": 1})
    model = ir.Model(graph, ir_version=10)
    share(model)
    return model


def test_a_sum_and_its_norm_are_one_node_that_gives_both() -> None:
    model = two_norms()
    finish_for_steps(model)
    found = kinds(model)
    assert (found[NORM], found["Pow"]) == (1, 1)
    (fused_norm,) = (node for node in model.graph if node.op_type == NORM)
    assert [bool(value.name) for value in fused_norm.outputs] == [True, False, False, True]
    random = np.random.default_rng(2)
    given = {name: random.standard_normal((1, 5, 8), np.float32) for name in "xy"}
    for got, wanted in zip(run(model, given), run(two_norms(), given), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_products_that_lie_side_by_side_are_found(tmp_path: Path) -> None:
    names = [f"{name}_part" for name in ("query", "key", "value")]
    places = [ProductPlace(name, "x", name, width) for name, width in zip(names, SIZES, strict=True)]
    other = ProductPlace("other", "x", "mixed", 3)
    for model, packed in ((stacked(), False), (fused(), True)):
        path = tmp_path / f"{packed}.onnx"
        ir.save(model, path)
        found = found_in(path, [*places, other])
        assert found[-1] == other
        starts = [0, SIZES[0], SIZES[0] + SIZES[1]] if packed else [0, 0, 0]
        assert [place.first for place in found[:3]] == starts
        assert [place.width for place in found[:3]] == SIZES
        wanted = [PACKED.join(names)] * 3 if packed else names
        assert [place.result for place in found[:3]] == wanted
